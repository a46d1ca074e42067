"""A line search without derivatives."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from ..._space import PyTree, Space

TRIALS = 6  # shorter steps; the last is taken as it is: |g| may have a minimum that is no solution
WINDOW = 8  # accepted iterates, the largest |g| of which counts
DECREASE = 1e-4


class LineSearch(NamedTuple):
    """From the last accepted iterate `base` a step of `length` d.

    The trial z is accepted where `|g(z)| <= (1 + 1 / (k + 1)^2) R - 1e-4 |length d|^2`, with R
    the largest |g| among the last eight accepted iterates: no descent direction is needed, and a
    passing rise does no harm. A rejected step is cut to between a tenth and a half, where the
    parabola through `|g|^2` at both ends, with the slope of an exact Newton step, has its minimum.

    `records` (*batch, 8) are the norms, the newest first, 0 before there are any; `length`,
    `square` = |d|^2 and `trials` int32, the cuts that are left, are (*batch,).

    Source: La Cruz, Martinez & Raydan, *Spectral residual method without gradient information*
    (2006), after Grippo, Lampariello & Lucidi and Li & Fukushima.
    """

    base: PyTree
    records: Array
    length: Array
    square: Array
    trials: Array

    @classmethod
    def start(cls, space: Space, z0: PyTree, length: ArrayLike) -> "LineSearch":
        """Before the first iterate, which is accepted whatever it is."""
        zero = jnp.zeros_like(space.dot(z0, z0))
        records = jnp.broadcast_to(zero[..., None], (*zero.shape, WINDOW))
        return cls(z0, records, jnp.full_like(zero, length), zero, zero.astype(jnp.int32))

    def can_cut(self) -> Array:
        """Which samples may shorten the step that they have tried."""
        return self.trials > 0

    def rejects(self, k: Array, now: Array) -> Array:
        """Which trials to step back from, given |g| there; 0 stands for a non-finite g."""
        growth = 1 + 1 / jnp.square(k + 1).astype(now.dtype)
        promise = growth * jnp.max(self.records, -1) - DECREASE * self.length**2 * self.square
        return ((now > promise) & self.can_cut()) | (now == 0)

    def follow(
        self, space: Space, z: PyTree, now: Array, again: Array, d: PyTree, longest: ArrayLike
    ) -> "LineSearch":
        """The search for the next step, along d, from z or, where that was rejected, `again`."""
        record = self.records[..., 0]
        rise = jnp.square(now / jnp.where(again, record, 1)) + 2 * self.length - 1
        cut = jnp.where(now > 0, self.length / jnp.where(rise > 0, rise, 1), 0)
        longest = jnp.asarray(longest, cut.dtype)
        grown = jnp.concatenate([now[..., None], self.records[..., :-1]], -1)
        return LineSearch(
            base=space.where(again, self.base, z),
            records=jnp.where(again[..., None], self.records, grown),
            length=jnp.where(again, self.length * jnp.clip(cut, 0.1, 0.5), longest),
            square=space.dot(d, d),
            trials=jnp.where(again, self.trials - 1, TRIALS),
        )
