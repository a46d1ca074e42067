"""Which leaves of a pytree are kernels, and which of their axes count output channels."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .._space import PyTree

Entry = str | type | Callable[[str, Any], bool]
Entries = Entry | Iterable[Entry]
Axes = int | tuple[int, ...]
ChannelAxis = Axes | Callable[[str, Array], Axes]


def is_kernel(path: str, leaf: Any) -> bool:
    """Floating arrays of two axes or more, named `kernel` (Flax) or `weight` (Equinox)."""
    return _is_floating(leaf) and leaf.ndim >= 2 and path.split(".")[-1] in ("kernel", "weight")


def find_kernels(
    params: PyTree, select: Entries, channel_axis: ChannelAxis
) -> dict[str, tuple[Array, tuple[int, ...]]]:
    """The selected leaves with their channel axes, by dotted path.

    Raises:
        ValueError: nothing is selected, a path names nothing, or an axis is out of range.
        TypeError: a selected leaf is not a floating array.
    """
    leaves = dict(_by_path(params))
    check_paths("select", select, leaves)
    selected = matcher(select)
    kernels = {path: leaf for path, leaf in leaves.items() if selected(path, leaf)}
    if not kernels:
        raise ValueError(f"select matches none of {', '.join(map(repr, leaves)) or 'no leaves'}")
    for path, leaf in kernels.items():
        if not _is_floating(leaf):
            kind = getattr(leaf, "dtype", type(leaf).__name__)
            raise TypeError(f"{path!r} is selected, but is no floating array: {kind}")
    return {p: (jnp.asarray(x), _channels(p, x, channel_axis)) for p, x in kernels.items()}


def replace_leaves(params: PyTree, new: Mapping[str, Array]) -> PyTree:
    """`params` with the leaves at these dotted paths replaced."""
    leaves = [new.get(path, leaf) for path, leaf in _by_path(params)]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)


def leaves_at(params: PyTree, paths: Iterable[str]) -> dict[str, Array]:
    """The leaves at these dotted paths; one that is not there is a `ValueError`."""
    leaves = dict(_by_path(params))
    if missing := [path for path in paths if path not in leaves]:
        raise ValueError(f"params have no {', '.join(map(repr, missing))}")
    return {path: jnp.asarray(leaves[path]) for path in paths}


def matcher(entries: Entries) -> Callable[[str, Any], bool]:
    """Whether a path (or one above it), a type or a predicate among `entries` fits."""

    def fits(entry: Entry, path: str, value: Any) -> bool:
        if isinstance(entry, str):
            return path == entry or path.startswith(entry + ".")
        if isinstance(entry, type):
            return isinstance(value, entry)
        return entry(path, value)

    every = _listed(entries)
    return lambda path, value: any(fits(entry, path, value) for entry in every)


def check_paths(option: str, entries: Entries, paths: Iterable[str]) -> None:
    """Raises a `ValueError` for a path among `entries` that names nothing."""
    known = list(paths)
    for entry in _listed(entries):
        if isinstance(entry, str) and not any(matcher(entry)(path, None) for path in known):
            raise ValueError(f"{option} names {entry!r}, which is none of {known}")


def _is_floating(leaf: Any) -> bool:
    return isinstance(leaf, Array | np.ndarray) and jnp.issubdtype(leaf.dtype, jnp.floating)


def _listed(entries: Entries) -> tuple[Entry, ...]:
    if isinstance(entries, str | type) or callable(entries):
        return (entries,)
    return tuple(entries)


def _by_path(params: PyTree) -> list[tuple[str, Any]]:
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator=".")
    leaves = [(name(path), leaf) for path, leaf in jax.tree.leaves_with_path(params)]
    if len(dict(leaves)) < len(leaves):
        raise ValueError(f"dotted paths are not unique: {sorted(path for path, _ in leaves)}")
    return leaves


def _channels(path: str, kernel: Array, channel_axis: ChannelAxis) -> tuple[int, ...]:
    given = channel_axis(path, kernel) if callable(channel_axis) else channel_axis
    axes = (given,) if isinstance(given, int) else tuple(given)
    for axis in axes:
        if not -kernel.ndim <= axis < kernel.ndim:
            raise ValueError(
                f"channel_axis {axis} is out of range for {path!r} of shape {kernel.shape}"
            )
    return tuple(sorted({axis % kernel.ndim for axis in axes}))
