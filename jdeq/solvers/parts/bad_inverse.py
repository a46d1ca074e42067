"""Broyden's bad inverse Jacobian, kept by differences."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..._space import PyTree, Space, pick
from .history import History, slot_of
from .small import matvec, over_square, vecmat, write_column, write_row


class BadInverse(NamedTuple):
    """The inverse `B` of the Jacobian of `g(z) = f(z) - z`, least change of the inverse.

    With the differences y_j of g, s_j of z between successive iterates,

        B_{j+1} = B_j (I - y_j y_j^T / |y_j|^2) + s_j y_j^T / |y_j|^2

    so that B g = -g + sum_j c_j (s_j + y_j), where c solves T c = Y^T g with T the upper
    triangle of Y^T Y in the order of time: Anderson's type II, with the Gram matrix cut to a
    triangle. A window of the newest pairs is again such a matrix, so in a full memory the oldest
    pair is dropped exactly.

    `changes` and `moves` are the histories of y and s + y in a ring; `solve` (*batch, l, l) is
    the inverse of T, grown by a column per step; `z`, `g`: the last iterate that was accepted.
    """

    changes: History
    moves: History
    solve: Array
    z: PyTree
    g: PyTree

    @classmethod
    def empty(cls, space: Space, z0: PyTree, size: int, dtype: str | None) -> "BadInverse":
        zero = jnp.zeros_like(space.dot(z0, z0))
        history, zeros = History.empty(space, z0, size, dtype), jax.tree.map(jnp.zeros_like, z0)
        matrix = jnp.broadcast_to(zero[..., None, None], (*zero.shape, size, size))
        return cls(history, history, matrix, zeros, zeros)

    def direction(
        self, space: Space, k: Array, z: PyTree, g: PyTree, length: Array, again: Array | None
    ) -> tuple[PyTree, "BadInverse"]:
        """`-B g` at iterate `k`, and the inverse with it; arguments as of `GoodInverse`.

        A rejected iterate leaves an empty pair behind.
        """
        size = self.solve.shape[-1]
        slot = slot_of(k + (size - 1), size)
        index = lax.broadcasted_iota(k.dtype, self.solve.shape[:-1], self.solve.ndim - 2)
        if again is not None:
            z, g = space.where(again, self.z, z), space.where(again, self.g, g)
        y, s = space.sub(g, self.g), space.sub(z, self.z)
        first = jnp.broadcast_to(k == 0, space.batch_shape(z))
        y, s = (space.where(first, jax.tree.map(jnp.zeros_like, x), x) for x in (y, s))
        changes = self.changes.write(space, slot, y)
        moves = self.moves.write(space, slot, space.add(s, y))
        filled = jnp.minimum(k, size)

        products = changes.dots(space, y, filled)
        square = pick(products, slot, products.ndim - 1)[..., None]
        inverse = over_square(jnp.ones_like(square), square)
        others = jnp.where((index == slot) | (index >= filled), 0, products)
        column = -matvec(self.solve, others) * inverse
        column = jnp.where(index == slot, inverse, column)
        solve = write_row(self.solve, slot, jnp.zeros_like(column))  # what it was is dropped
        solve = write_column(solve, slot, column)

        q = jnp.where(index < filled, changes.dots(space, g, filled), 0)
        c = matvec(solve, q)
        finite = jnp.all(jnp.isfinite(c), -1)  # products may overflow where states do not
        c = jnp.where(finite[..., None], c, 0)
        d = space.add(g, moves.accumulate(space, c, filled), -1)
        return d, BadInverse(changes, moves, solve, z, g)

    def keep(self, moving: Array, old: Any) -> "BadInverse":
        """As of `GoodInverse`: a sample that stands still makes empty pairs only."""
        return self

    def transposed(self, space: Space, steps: Array, v: PyTree) -> PyTree:
        """`-B^T v` at iterate `steps` (*batch,), if all pairs up to it are there."""
        filled = space.largest(steps)
        q = self.moves.dots(space, v, filled)
        index = lax.broadcasted_iota(steps.dtype, q.shape, q.ndim - 1)
        kept = index < steps[..., None]
        e = jnp.where(kept, vecmat(self.solve, jnp.where(kept, q, 0)), 0)
        return space.add(v, self.changes.accumulate(space, e, filled), -1)
