"""Checks of states: what a solve may start from, and whether one state is like another."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ._space import PyTree


def check_state(z0: PyTree, batch_dims: int) -> PyTree:
    """`z0` with array leaves, after checks.

    Raises:
        TypeError: a leaf is not a floating array.
        ValueError: no leaves, too few axes, or leaves that disagree on the batch axes.
    """
    if isinstance(batch_dims, bool) or not isinstance(batch_dims, int) or batch_dims < 0:
        raise ValueError(f"batch_dims must be an int >= 0, got {batch_dims!r}")
    leaves = jax.tree_util.tree_leaves_with_path(z0)
    if not leaves:
        raise ValueError("z0 holds no arrays")
    for path, leaf in leaves:
        name = "z0" + jax.tree_util.keystr(path)
        if not isinstance(leaf, Array | np.ndarray | np.generic | float):
            raise TypeError(f"{name} must be a floating array, got {type(leaf).__name__}")
        dtype, shape = getattr(leaf, "dtype", None) or jnp.result_type(leaf), jnp.shape(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(f"{name} must be floating, got {dtype}{list(shape)}")
        if len(shape) < batch_dims:
            raise ValueError(
                f"{name} has shape {shape}, fewer axes than batch_dims={batch_dims}; "
                "for a single system pass batch_dims=0"
            )
        first = jnp.shape(leaves[0][1])[:batch_dims]
        if shape[:batch_dims] != first:
            raise ValueError(
                f"{name} has batch axes {shape[:batch_dims]}, "
                f"but z0{jax.tree_util.keystr(leaves[0][0])} has {first}"
            )
    return jax.tree.map(lambda x: jnp.asarray(x, dtype=jnp.result_type(x)), z0)


def check_like(z: PyTree, other: PyTree, name: str) -> PyTree:
    """`other` with array leaves, after a check that it has the structure and shapes of `z`.

    Raises:
        TypeError: it does not; the message names the leaf.
    """
    want, got = jax.tree.structure(z), jax.tree.structure(other)
    if want != got:
        raise TypeError(f"{name} must have the structure of the state, {want}, but has {got}")
    other = jax.tree.map(jnp.asarray, other)
    for path, a, b in _pairs(z, other):
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            raise TypeError(
                f"{name}{path} must be {a.dtype}{list(a.shape)} as in the state, "
                f"not {b.dtype}{list(b.shape)}"
            )
    return other


def check_takes_state(f: Callable[..., Any], z0: PyTree) -> None:
    """Raises `TypeError`, with what to write, unless `f(z0)` is a possible call."""
    try:
        signature = inspect.signature(f)
    except (TypeError, ValueError):  # as of what is written in C
        return
    try:
        signature.bind(z0)
    except TypeError as error:
        names = [
            p.name
            for p in signature.parameters.values()
            if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
        if isinstance(z0, tuple | list) and len(z0) == len(names):
            write = "the state is one argument, so pass `lambda z: f(*z)`"
        else:
            write = "close over all but the state, `lambda z: f(z, x)`; of several variables it is "
            write += "one argument, a tuple: `lambda z: f(*z)`"
        raise TypeError(
            f"f takes {len(names)} arguments ({', '.join(names)}), but is called as f(z): {write}"
        ) from error


def check_output(z0: PyTree, out: PyTree) -> None:
    """Raises `TypeError` unless `out`, what `f` makes of `z0`, has its structure and shapes."""
    want, got = jax.tree.structure(z0), jax.tree.structure(out)
    if want != got:
        raise TypeError(f"f must return the structure of z0, {want}, but returned {got}")
    for path, a, b in _pairs(z0, out):
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            raise TypeError(
                f"f maps z0{path} of {a.dtype}{list(a.shape)} "
                f"to {b.dtype}{list(b.shape)}; it must keep shape and dtype"
            )


def _pairs(z: PyTree, other: PyTree) -> list[tuple[str, Any, Any]]:
    """Paths and leaves of two trees of one structure."""
    left, right = jax.tree_util.tree_leaves_with_path(z), jax.tree.leaves(other)
    rows = zip(left, right, strict=True)
    return [(jax.tree_util.keystr(path), a, b) for (path, a), b in rows]
