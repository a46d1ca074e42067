"""A kernel times `min(clip, g / norm)`, however its norm is measured."""

from collections.abc import Collection
from typing import Any

import jax.numpy as jnp
from jax import Array

from .._checks import check_scalar
from .._space import accumulator


def rescale(
    kernel: Array, norm: Array, g: Array | float, *, clip: float | None, eps: float
) -> Array:
    """`kernel * min(clip, g / norm)`, in the kernel's dtype (TorchDEQ paper, eqs. 15, 16).

    Where the norm is not above `eps` the quotient is taken as 1: zeros stay zero, and their
    gradient is finite.

    Args:
        kernel: floating array.
        norm: broadcasts against the kernel; float32 or float64.
        g: the scale; broadcasts against the norm.
        clip: bound of the factor; None: no bound.
        eps: norms up to this count as zero.
    """
    usable = norm > eps
    g = jnp.asarray(g, norm.dtype)
    factor = jnp.where(usable, g / jnp.where(usable, norm, 1), 1)
    if clip is not None:
        factor = jnp.minimum(factor, clip)
    return (kernel.astype(accumulator(kernel)) * factor).astype(kernel.dtype)


def check_options(*, target_norm: float | None, clip: float | None, eps: float) -> None:
    """Raises an error that names the option if one is out of range."""
    if target_norm is not None:
        check_scalar("target_norm", target_norm, above=0)
    if clip is not None:
        check_scalar("clip", clip, above=0)
    check_scalar("eps", eps, low=0)


def check_scales(scales: Collection[str], kernels: Collection[str]) -> None:
    """Raises a `ValueError` unless every kernel, and nothing else, has a scale."""
    problems: list[Any] = [f"no scale for {path!r}" for path in kernels if path not in scales]
    problems += [f"no kernel {path!r}" for path in scales if path not in kernels]
    if problems:
        raise ValueError(f"scales do not fit the kernels: {', '.join(problems)}")
