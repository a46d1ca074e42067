"""Broyden's good inverse Jacobian, kept by its directions alone."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from ..._space import PyTree, Space, pick
from .history import History, slot_of
from .small import over_square, shift, unshift


class GoodInverse(NamedTuple):
    """The inverse `B` of the Jacobian of `g(z) = f(z) - z`, least change of the Jacobian itself.

    With the directions d_j = -B_j g(z_j), steps t_j d_j and mu_j = 1 - t_j,

        -B_k = F_{k-1} ... F_0,    F_j = I + (d_{j+1} - mu_j d_j) d_j^T / |d_j|^2

    Applied to g that is g + sum_j c_j (d_{j+1} - mu_j d_j), where c solves a lower triangular
    system with right-hand side D^T g.

    `directions` is the history of d_0, d_1, ...; `mu` (*batch, l); `squares` (*batch, l) are the
    |d_j|^2, `rows` is the history of pairs (*batch, l): <d_i, d_j>, j < i, and the rows of the
    inverse of the triangular matrix; `start` (*batch,) int32 is the oldest slot that still counts.
    When all slots are used up the approximation starts afresh from `-I`.
    """

    directions: History
    mu: Array
    squares: Array
    rows: History
    start: Array

    @classmethod
    def empty(cls, space: Space, z0: PyTree, size: int, dtype: str | None) -> "GoodInverse":
        zero = jnp.zeros_like(space.dot(z0, z0))
        row = jnp.broadcast_to(zero[..., None], (*zero.shape, size))
        directions = History.empty(space, z0, size, dtype)
        rows = History.empty(space, (row, row), size)
        return cls(directions, row, row, rows, jnp.zeros_like(zero, jnp.int32))

    def direction(
        self, space: Space, k: Array, z: PyTree, g: PyTree, length: Array, again: Array | None
    ) -> tuple[PyTree, "GoodInverse"]:
        """`-B g` at iterate `k`, and the inverse with it.

        Args:
            z, g: the iterate, and `f(z) - z`.
            length: (*batch,) the fraction of the last direction that led to `z`.
            again: (*batch,) bool: `z` was rejected, give the last direction again. It takes a
                slot, and makes the factor of the last one the identity. None: all are accepted.
        """
        size = self.mu.shape[-1]
        slot = slot_of(k, size)
        before = jnp.where(slot == 0, size, slot) - 1
        start = jnp.where(slot == 0, 0, self.start)
        index = lax.broadcasted_iota(k.dtype, self.mu.shape, self.mu.ndim - 1)
        last = index == before
        filled = slot
        if again is not None:
            filled = jnp.where(slot == 0, size, slot)  # the last direction is at the end then
            length, g = jnp.where(again, 0, length), space.scale(g, jnp.where(again, 0, 1))
        mu = jnp.where(last, 1 - length[..., None], self.mu)
        kept = (index < slot) & (index >= start[..., None])

        earlier, chain = self.rows.leaf(0), self.rows.leaf(1)
        p = jnp.where(kept, self.directions.dots(space, g, filled), 0)
        c = jnp.where(kept, chain.dots(space.unsplit, p, filled), 0)
        w = jnp.where(kept, shift(c) - mu * c, 0)
        # the last factor holds the unknown d itself: d (1 - c_last) = g + sum_j w_j d_j
        divisor = 1 - pick(c, before, c.ndim - 1)
        eps = jnp.finfo(divisor.dtype).eps
        sound = (jnp.abs(divisor) > eps**0.5) & jnp.isfinite(jnp.sum(w, -1))
        sound &= jnp.abs(divisor) < 1 / eps  # what cancels may leave steps that get to 0
        inverse = jnp.where(sound, 1 / jnp.where(sound, divisor, 1), 1)
        w = jnp.where(sound[..., None], w, 0)
        own = (1 - mu) * c
        if again is not None:  # g, c and w are 0
            w = jnp.where(again[..., None], last.astype(w.dtype), w)
            own = jnp.where(again[..., None], last.astype(w.dtype), own)
        d = space.scale(space.add(g, self.directions.accumulate(space, w, filled)), inverse)
        d = self.directions.rounded(space, d)
        start = jnp.where(sound, start, slot)  # a singular update: begin again with d = g

        square = space.dot(d, d)
        # <d_j, d>: by the triangular system the part of w up to j and p make own_j |d_j|^2
        row = own * self.squares + earlier.accumulate(space, w, filled)
        row = jnp.where(kept & sound[..., None], inverse[..., None] * row, 0)
        squares = jnp.where(index == slot, square[..., None], self.squares)
        following = unshift(jnp.where(index == slot, square[..., None], row))
        link = jnp.where(kept & sound[..., None], following - mu * row, 0)
        link = jnp.where(index == slot, 1, chain.accumulate(space, link, filled))
        return d, GoodInverse(
            self.directions.write(space, slot, d),
            mu,
            squares,
            self.rows.write(space, slot, (row, over_square(link, square[..., None]))),
            start,
        )

    def keep(self, moving: Array, old: Any) -> "GoodInverse":
        """This one for the samples that are `moving`, what matters of the old one for others."""
        return self._replace(start=jnp.where(moving, self.start, old.start))

    def transposed(self, space: Space, steps: Array, v: PyTree) -> PyTree:
        """`-B^T v` at iterate `steps` (*batch,), if all directions up to it are there.

        The transposed factors, the latest first, give v + D e with e = C^T r, C the `chain`.
        """
        filled = space.largest(steps)
        q = self.directions.dots(space, v, filled)
        index = lax.broadcasted_iota(steps.dtype, q.shape, q.ndim - 1)
        kept = (index < steps[..., None]) & (index >= self.start[..., None])
        r = jnp.where(kept, unshift(q) - self.mu * q, 0)
        e = jnp.where(kept, self.rows.leaf(1).accumulate(space, r, filled), 0)
        return space.add(v, self.directions.accumulate(space, e, filled))
