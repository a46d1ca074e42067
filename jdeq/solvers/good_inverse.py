"""Broyden's good inverse Jacobian, kept by its directions alone."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from .._space import PyTree, Space, pick
from .filled import on_leading
from .history import History, slot_of
from .small import matvec, over_square, shift, unshift, vecmat, write_column, write_row


class GoodInverse(NamedTuple):
    """The inverse `B` of the Jacobian of `g(z) = f(z) - z`, least change of the Jacobian itself.

    With the directions d_j = -B_j g(z_j), steps t_j d_j and mu_j = 1 - t_j,

        -B_k = F_{k-1} ... F_0,    F_j = I + (d_{j+1} - mu_j d_j) d_j^T / |d_j|^2

    Applied to g that is g + sum_j c_j (d_{j+1} - mu_j d_j), where c solves a lower triangular
    system with right-hand side D^T g.

    `directions` is the history of d_0, d_1, ...; `mu` (*batch, l); `gram` (*batch, l, l) holds
    <d_i, d_j>, `chain` (*batch, l, l) the inverse of the triangular matrix, grown by a row per
    step; `start` (*batch,) int32 is the oldest slot that still counts. When all slots are used
    up the approximation starts afresh from `-I`.
    """

    directions: History
    mu: Array
    gram: Array
    chain: Array
    start: Array

    @classmethod
    def empty(cls, space: Space, z0: PyTree, size: int, dtype: str | None) -> "GoodInverse":
        zero = jnp.zeros_like(space.dot(z0, z0))
        row = jnp.broadcast_to(zero[..., None], (*zero.shape, size))
        matrix = jnp.broadcast_to(zero[..., None, None], (*zero.shape, size, size))
        history = History.empty(space, z0, size, dtype)
        return cls(history, row, matrix, matrix, jnp.zeros_like(zero, jnp.int32))

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
        size = self.gram.shape[-1]
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

        p = jnp.where(kept, self.directions.dots(space, g, filled), 0)
        c = jnp.where(kept, on_leading(matvec, self.chain, p, filled), 0)
        w = jnp.where(kept, shift(c) - mu * c, 0)
        # the last factor holds the unknown d itself: d (1 - c_last) = g + sum_j w_j d_j
        divisor = 1 - pick(c, before, c.ndim - 1)
        tiny = jnp.finfo(divisor.dtype).eps ** 0.5
        sound = (jnp.abs(divisor) > tiny) & jnp.all(jnp.isfinite(w), -1)
        inverse = jnp.where(sound, 1 / jnp.where(sound, divisor, 1), 1)
        w = jnp.where(sound[..., None], w, 0)
        if again is not None:  # g and w are 0
            w = jnp.where(again[..., None], last.astype(w.dtype), w)
        d = space.scale(space.add(g, self.directions.accumulate(space, w, filled)), inverse)
        d = self.directions.rounded(space, d)
        start = jnp.where(sound, start, slot)  # a singular update: begin again with d = g

        square = space.dot(d, d)
        row = inverse[..., None] * (p + on_leading(matvec, self.gram, w, filled))
        row = jnp.where(kept & sound[..., None], row, 0)
        row = jnp.where(index == slot, square[..., None], row)
        link = jnp.where(kept & sound[..., None], unshift(row) - mu * row, 0)
        link = jnp.where(index == slot, 1, on_leading(vecmat, self.chain, link, filled))
        return d, GoodInverse(
            self.directions.write(space, slot, d),
            mu,
            write_row(write_column(self.gram, slot, row), slot, row),
            write_row(self.chain, slot, over_square(link, square[..., None])),
            start,
        )

    def keep(self, moving: Array, old: Any) -> "GoodInverse":
        """This one for the samples that are `moving`, what matters of the old one for others."""
        return self._replace(start=jnp.where(moving, self.start, old.start))

    def transposed(self, space: Space, steps: Array, v: PyTree) -> PyTree:
        """`-B^T v` at iterate `steps` (*batch,), if all directions up to it are there.

        The transposed factors, the latest first, give v + D e with e = C^T r, C the `chain`.
        """
        filled = jnp.max(steps, initial=0)
        q = self.directions.dots(space, v, filled)
        index = lax.broadcasted_iota(steps.dtype, q.shape, q.ndim - 1)
        kept = (index < steps[..., None]) & (index >= self.start[..., None])
        r = jnp.where(kept, unshift(q) - self.mu * q, 0)
        e = jnp.where(kept, on_leading(vecmat, self.chain, r, filled), 0)
        return space.add(v, self.directions.accumulate(space, e, filled))
