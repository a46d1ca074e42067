"""Tracing `f` once: checks what it returns, and hoists everything it closes over."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import TraceContextError
from jax import Array, core, lax

from ._space import PyTree

Pure = Callable[[list[Any], PyTree], PyTree]


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


def trace(f: Callable[[PyTree], PyTree], z0: PyTree) -> tuple[Pure, list[Any], PyTree]:
    """Splits `f` into a pure function and the values that it closes over.

    Everything is hoisted, differentiable or not: a custom derivative rule may not leave tracers,
    integers or keys of an outer transformation inside.

    Returns:
        `pure(consts, z)`, `consts`, and `z0` cast to vary over the mesh axes that `f(z0)`
        varies over (inside `shard_map`).

    Raises:
        TypeError: `f` changes the structure, a shape or a dtype (the leaf is named), or writes
            to the state of a Flax module.
    """
    try:
        # a fresh function each time: make_jaxpr remembers what an old one closed over
        traced, out = jax.make_jaxpr(lambda z: f(z), return_shape=True)(z0)
    except TraceContextError as error:
        raise TypeError(
            "f writes to the state of a Flax module, which cannot happen inside a solve. "
            "Compute dropout masks and normalised weights once, before the solve, and use "
            "BatchNorm only in eval mode (use_running_average=True) or outside f."
        ) from error
    _check_output(z0, out)
    treedef = jax.tree.structure(z0)

    def pure(consts: list[Any], z: PyTree) -> PyTree:
        flat = core.eval_jaxpr(traced.jaxpr, consts, *jax.tree.leaves(z))
        return jax.tree.unflatten(treedef, flat)

    z0 = jax.tree.map(_vary_like, z0, jax.tree.unflatten(treedef, traced.out_avals))
    return pure, list(traced.consts), z0


def check_like(z: PyTree, other: PyTree, name: str) -> PyTree:
    """`other` with array leaves, after a check that it has the structure and shapes of `z`.

    Raises:
        TypeError: it does not; the message names the leaf.
    """
    want, got = jax.tree.structure(z), jax.tree.structure(other)
    if want != got:
        raise TypeError(f"{name} must have the structure of the state, {want}, but has {got}")
    other = jax.tree.map(jnp.asarray, other)
    pairs = zip(jax.tree_util.tree_leaves_with_path(z), jax.tree.leaves(other), strict=True)
    for (path, a), b in pairs:
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            raise TypeError(
                f"{name}{jax.tree_util.keystr(path)} must be {a.dtype}{list(a.shape)} as in the "
                f"state, not {b.dtype}{list(b.shape)}"
            )
    return other


def _check_output(z0: PyTree, out: PyTree) -> None:
    want, got = jax.tree.structure(z0), jax.tree.structure(out)
    if want != got:
        raise TypeError(f"f must return the structure of z0, {want}, but returned {got}")
    pairs = zip(jax.tree_util.tree_leaves_with_path(z0), jax.tree.leaves(out), strict=True)
    for (path, a), b in pairs:
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            raise TypeError(
                f"f maps z0{jax.tree_util.keystr(path)} of {a.dtype}{list(a.shape)} "
                f"to {b.dtype}{list(b.shape)}; it must keep shape and dtype"
            )


def _vary_like(x: Array, aval: Any) -> Array:
    """Inside `shard_map`, a replicated start is marked as varying where f's output varies."""
    axes = tuple(aval.mat.varying - jax.typeof(x).mat.varying)
    return lax.pcast(x, axes, to="varying") if axes else x
