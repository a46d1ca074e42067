"""Derivatives through the iterations on half-precision states, within the range of the dtype."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from ._space import PyTree, Space, accumulator

HEADROOM = 8  # a cotangent is a sum of a few that are limited


class Widened:
    """Drives `solver` with states in float32 at least; the loop keeps theirs, in their own dtype.

    Values are as precise as before, or more. It is the cotangents that need the range: those of a
    history are larger than those of the state by the conditioning of the solver's small system,
    beyond what float16 can hold, and then cancel.
    """

    def __init__(self, solver: Any):
        self._solver = solver

    def __getattr__(self, name: str) -> Any:
        return getattr(self._solver, name)

    def init(self, space: Space, z0: PyTree) -> Any:
        return self._solver.init(space, widened(z0))

    def step(self, space: Space, k: Array, z: PyTree, fz: PyTree, state: Any) -> Any:
        z_next, state = self._solver.step(space, k, widened(z), widened(fz), state)
        return jax.tree.map(lambda a, b: a.astype(b.dtype), z_next, z), state


def widened(tree: PyTree) -> PyTree:
    """The floating leaves in float32 at least; their cotangents come back `limited`."""

    def leaf(x: Array) -> Array:
        return x.astype(accumulator(x)) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(leaf, limited(tree))


def limited(tree: PyTree) -> PyTree:
    """The same values; a cotangent of a float16 leaf is cut to an eighth of what that can hold.

    Where a gradient is too large for its dtype, infinities of both signs would add up to NaN.
    """
    return jax.tree.map(lambda x: _limited(x) if x.dtype == jnp.float16 else x, tree)


def _limited(x: Array) -> Array:
    most = float(jnp.finfo(x.dtype).max) / HEADROOM

    def cut(_: Any, cotangent: Array) -> Array:
        return jnp.clip(jnp.nan_to_num(cotangent, posinf=most, neginf=-most), -most, most)

    same = lambda v: v
    # the way to a linear function with a transpose of one's own, in forward mode too
    return lax.custom_linear_solve(same, x, lambda _, v: v, transpose_solve=cut)
