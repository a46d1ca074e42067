"""Spectral normalisation of the kernels of a pytree."""

import functools
import operator
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from .._checks import check_int
from .._space import PyTree, accumulator
from .rescale import check_options, check_scales, rescale
from .select import ChannelAxis, Entries, find_kernels, is_kernel, leaves_at, replace_leaves


class PowerVectors(NamedTuple):
    """Left and right singular vector of a kernel, as far as the power iteration has come.

    The kernel counts as a matrix M with a row per output channel. Nothing is reshaped, so that a
    sharded kernel stays sharded: `u` has the kernel's shape with 1 for all axes but the channels,
    `v` with 1 for the channels; both float32, or float64 for a float64 kernel.
    """

    u: Array
    v: Array


def spectral_norm(
    params: PyTree,
    state: Mapping[str, PowerVectors],
    scales: Mapping[str, Array] | None = None,
    *,
    n_power_iterations: int = 1,
    target_norm: float = 1.0,
    clip: float | None = None,
    eps: float = 1e-12,
) -> tuple[PyTree, dict[str, PowerVectors]]:
    """Rescales each kernel M to `M min(clip, g / sigma)`, where `sigma = u^T M v` is its norm.

    A pure function of a pytree. Call it once before a solve, close over the parameters that it
    returns and keep the state for the next call: `u` and `v` follow slowly changing kernels at
    one power iteration per training step. They are constants for the gradient.

    The matrix of a convolution has a row per output channel and a column per input channel and
    tap. Its norm bounds the convolution up to a factor of the square root of the number of taps.

    Args:
        params: any pytree.
        state: vectors by the dotted path of the kernel, from `spectral_state`. It decides which
            kernels are normalised.
        scales: `g` by path, from `spectral_scales`; learn them with the parameters. None: every
            spectral norm is `target_norm`.
        n_power_iterations: steps `v <- M^T u / ||.||`, `u <- M v / ||.||`; 0 in evaluation, to
            leave the state as it is.
        target_norm: the spectral norm of every kernel without `scales`.
        clip: upper bound for the factor.
        eps: kernels with a norm up to this are left as they are.

    Returns:
        `params` with normalised kernels, in their dtypes, and the new state.

    Raises:
        ValueError: an option is out of range; `state` or `scales` do not fit the parameters.

    Source: Miyato et al., *Spectral Normalization for GANs* (2018); TorchDEQ paper, eqs. 14-16.

    Example:
        >>> import jax.numpy as jnp, jdeq
        >>> params = {"kernel": jnp.array([[4.0, 0.0], [0.0, 1.0]])}
        >>> state = jdeq.norm.spectral_state(params)
        >>> normalised, state = jdeq.norm.spectral_norm(params, state, target_norm=0.5)
        >>> normalised["kernel"].tolist()
        [[0.5, 0.0], [0.0, 0.125]]
    """
    check_options(target_norm=target_norm, clip=clip, eps=eps)
    check_int("n_power_iterations", n_power_iterations, low=0)
    if scales is not None:
        check_scales(scales, state)
    normalised, new_state = {}, {}
    for path, kernel in leaves_at(params, state).items():
        _check_vectors(path, kernel, state[path])
        vectors = power_steps(kernel, state[path], n_power_iterations)
        g = target_norm if scales is None else scales[path]
        normalised[path] = rescale(kernel, _sigma(kernel, vectors), g, clip=clip, eps=eps)
        new_state[path] = vectors
    return replace_leaves(params, normalised), new_state


def spectral_state(
    params: PyTree,
    *,
    select: Entries = is_kernel,
    channel_axis: ChannelAxis = -1,
    n_power_iterations: int = 32,
) -> dict[str, PowerVectors]:
    """Start vectors for `spectral_norm`, already close to the leading singular vectors.

    Args:
        params: any pytree.
        select: as in `jdeq.norm.weight_norm`.
        channel_axis: as in `jdeq.norm.weight_norm`.
        n_power_iterations: steps from a fixed random vector; so the first normalised kernels are
            not far off.

    Returns:
        `PowerVectors` by the dotted path of their kernel.

    Raises:
        ValueError, TypeError: as in `jdeq.norm.weight_norm`.

    Example:
        >>> import jax.numpy as jnp, jdeq
        >>> u, v = jdeq.norm.spectral_state({"kernel": jnp.ones((3, 4))})["kernel"]
        >>> u.shape, v.shape
        ((1, 4), (3, 1))
    """
    check_int("n_power_iterations", n_power_iterations, low=1)
    kernels = find_kernels(params, select, channel_axis)
    return {p: _start(k, channels, n_power_iterations) for p, (k, channels) in kernels.items()}


def spectral_scales(
    params: PyTree,
    state: Mapping[str, PowerVectors],
    *,
    target_norm: float | None = 1.0,
    per_channel: bool = False,
) -> dict[str, Array]:
    """Scales `g` for `spectral_norm` to start learning from.

    Args:
        params: any pytree.
        state: from `spectral_state`.
        target_norm: the spectral norm to start with. None: each kernel's own, as its vectors
            measure it, so that nothing changes yet.
        per_channel: one scale for each output channel, as TorchDEQ has it. The spectral norm is
            then no longer `g`, and not bounded by any one of them.

    Returns:
        Arrays by path in the kernel's dtype, of its shape with 1 for all axes, or for all but
        the channels.

    Raises:
        ValueError: `target_norm` is not positive, or `state` does not fit the parameters.

    Example:
        >>> import jax.numpy as jnp, jdeq
        >>> params = {"kernel": jnp.diag(jnp.array([4.0, 1.0]))}
        >>> jdeq.norm.spectral_scales(params, jdeq.norm.spectral_state(params), target_norm=None)
        {'kernel': Array([[4.]], dtype=float32)}
    """
    check_options(target_norm=target_norm, clip=None, eps=0)
    scales = {}
    for path, kernel in leaves_at(params, state).items():
        _check_vectors(path, kernel, state[path])
        sigma = _sigma(kernel, state[path])
        g = sigma if target_norm is None else jnp.full_like(sigma, target_norm)
        like = jnp.ones_like(state[path].u) if per_channel else jnp.ones_like(g)
        scales[path] = (g * like).astype(kernel.dtype)
    return scales


def power_steps(kernel: Array, vectors: PowerVectors, steps: int) -> PowerVectors:
    """The vectors after some steps; those of a zero kernel stay. No gradient passes."""
    matrix = lax.stop_gradient(kernel).astype(vectors.u.dtype)

    def step(_, old: PowerVectors) -> PowerVectors:
        v = _normalised(_contract(matrix, old.u, like=old.v), old.v)
        return PowerVectors(_normalised(_contract(matrix, v, like=old.u), old.u), v)

    vectors = lax.stop_gradient(vectors)
    if steps > 0:  # the first step gives the vectors the kernel's sharding, a loop must keep it
        vectors = step(0, vectors)
    return lax.fori_loop(1, steps, step, vectors) if steps > 1 else vectors


def _sigma(kernel: Array, vectors: PowerVectors) -> Array:
    """`u^T M v`, of the kernel's rank with all axes 1; u and v are constants."""
    u, v = lax.stop_gradient(vectors)
    return jnp.sum(kernel.astype(u.dtype) * v * u, keepdims=True)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _start(kernel: Array, channels: tuple[int, ...], steps: int) -> PowerVectors:
    wide = accumulator(kernel)
    is_channel = [i in channels for i in range(kernel.ndim)]
    sizes = list(zip(kernel.shape, is_channel, strict=True))
    features = tuple(1 if channel else n for n, channel in sizes)
    v = _normalised(jax.random.normal(jax.random.key(0), features, wide), jnp.ones(features, wide))
    u = jnp.ones(tuple(n if channel else 1 for n, channel in sizes), wide)
    u = _normalised(_contract(kernel.astype(wide), v, like=u), u * u.size**-0.5)
    return power_steps(kernel, PowerVectors(u, v), steps)


def _contract(matrix: Array, x: Array, *, like: Array) -> Array:
    """Sums `matrix * x` over the axes that `like` has not: `M^T u` or `M v`."""
    axes = tuple(i for i, n in enumerate(like.shape) if n == 1)
    return jnp.sum(matrix * x, axes, keepdims=True)


def _normalised(x: Array, otherwise: Array) -> Array:
    """x of length 1, or `otherwise` if it is zero."""
    norm = jnp.sqrt(jnp.sum(jnp.square(x), keepdims=True))
    return jnp.where(norm > 0, x / jnp.where(norm > 0, norm, 1), otherwise)


def _check_vectors(path: str, kernel: Array, vectors: PowerVectors) -> None:
    u, v = vectors
    if tuple(map(operator.mul, u.shape, v.shape)) != kernel.shape:
        raise ValueError(f"state of {path!r} is for another shape than {kernel.shape}")
