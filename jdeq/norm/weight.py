"""Weight normalisation of the kernels of a pytree."""

from collections.abc import Mapping

import jax.numpy as jnp
from jax import Array, lax

from .._space import PyTree, accumulator
from .rescale import check_options, check_scales, rescale
from .select import ChannelAxis, Entries, find_kernels, is_kernel, replace_leaves


def weight_norm(
    params: PyTree,
    scales: Mapping[str, Array] | None = None,
    *,
    select: Entries = is_kernel,
    channel_axis: ChannelAxis = -1,
    target_norm: float = 1.0,
    clip: float | None = None,
    eps: float = 1e-12,
) -> PyTree:
    """Rescales each output channel `v` of each kernel to `w = v min(clip, g / ||v||)`.

    A pure function of a pytree: Linen parameters, Equinox modules, dictionaries. Call it once
    before a solve and close over what it returns.

    Args:
        params: any pytree with floating arrays among its leaves.
        scales: `g` by the dotted path of the kernel, from `weight_scales`; learn them together
            with the parameters. None: every norm is `target_norm`.
        select: the kernels: dotted paths (of a leaf, or of what is above it), a predicate
            `(path, leaf) -> bool`, or several of them. By default the leaves named `kernel` or
            `weight` with two axes or more.
        channel_axis: axis or axes that count output channels, or a function
            `(path, leaf) -> axes`. The last one in Flax; 0 in Equinox.
        target_norm: the norm of every channel without `scales`.
        clip: upper bound for the factor.
        eps: channels with a norm up to this are left as they are.

    Returns:
        `params` with normalised kernels, in their dtypes; norms are taken in float32 at least.

    Raises:
        ValueError: no kernel is selected, an option is out of range, or `scales` do not fit.
        TypeError: a selected leaf is not a floating array.

    Source: Salimans & Kingma, *Weight Normalization* (2016); TorchDEQ paper, eqs. 13, 15, 16.

    Example:
        >>> import jax.numpy as jnp, jdeq
        >>> params = {"dense": {"kernel": jnp.array([[3.0, 0.0], [4.0, 2.0]]), "bias": jnp.ones(2)}}
        >>> jdeq.norm.weight_norm(params, target_norm=5.0)["dense"]["kernel"].tolist()
        [[3.0, 0.0], [4.0, 5.0]]
        >>> scales = jdeq.norm.weight_scales(params)  # the norms as they are: nothing changes yet
        >>> jdeq.norm.weight_norm(params, scales)["dense"]["kernel"].tolist()
        [[3.0, 0.0], [4.0, 2.0]]
    """
    check_options(target_norm=target_norm, clip=clip, eps=eps)
    kernels = find_kernels(params, select, channel_axis)
    if scales is not None:
        check_scales(scales, kernels)
    normalised = {}
    for path, (kernel, channels) in kernels.items():
        g = target_norm if scales is None else scales[path]
        norm = _channel_norm(kernel, channels)
        normalised[path] = rescale(kernel, norm, g, clip=clip, eps=eps)
    return replace_leaves(params, normalised)


def weight_scales(
    params: PyTree, *, select: Entries = is_kernel, channel_axis: ChannelAxis = -1
) -> dict[str, Array]:
    """The norm of every output channel: scales `g` with which `weight_norm` changes nothing.

    Args:
        params: any pytree.
        select: as in `weight_norm`.
        channel_axis: as in `weight_norm`.

    Returns:
        Arrays by the dotted path of their kernel, in its dtype, with axes of length 1 for those
        that the norm sums over.

    Raises:
        ValueError, TypeError: as in `weight_norm`.

    Example:
        >>> import jax.numpy as jnp, jdeq
        >>> params = {"kernel": jnp.array([[3.0, 0.0], [4.0, 2.0]])}
        >>> jdeq.norm.weight_scales(params)["kernel"].tolist()
        [[5.0, 2.0]]
    """
    kernels = find_kernels(params, select, channel_axis)
    return {p: _channel_norm(k, channels).astype(k.dtype) for p, (k, channels) in kernels.items()}


def _channel_norm(kernel: Array, channels: tuple[int, ...]) -> Array:
    """2-norm over the other axes, which stay as axes of length 1; its gradient at 0 is 0."""
    others = tuple(i for i in range(kernel.ndim) if i not in channels)
    square = jnp.sum(jnp.square(kernel.astype(accumulator(kernel))), others, keepdims=True)
    return jnp.where(square > 0, lax.sqrt(jnp.where(square > 0, square, 1)), 0)
