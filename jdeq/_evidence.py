"""Whether a small residual is that of a solution, or of a state that ran away.

Where `f(z) - z` does not fall, as on `z + 1`, an accelerated method goes far out; there the same
residual is small beside the state, or rounded to 0. And it may fall for ever without a solution,
as on `z + exp(-z)`, while the steps do not get shorter. Neither is told by one residual.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

GROWTH = 2.0  # a state this many times larger, or smaller, has come to another region
FALL = 3.0  # by how much the residual must have come down since it came there, at least
NEAR = 0.5  # times the geometric mean of residual and state: what an error may be estimated at
LEAP = 1e-2  # a step that leaves no more than this of the residual may lead anywhere
VANISHED = 1e-9  # a state of this share of the first is tried at 0


class Evidence(NamedTuple):
    """What a sample's earlier passes say of its next small residual; all `(*batch,)`.

    `start` is the first `|f(z)|`, `region` what it was where the state came to about its present
    size, and `below` what a residual has to come down to by now. `residual` is the last
    `|f(z) - z|`, and `lowest` the lowest one: infinite before the first pass.
    """

    start: Array
    region: Array
    below: Array
    residual: Array
    lowest: Array

    @classmethod
    def none(cls, zero: Array) -> "Evidence":
        """Before the first pass; `zero` is (*batch,)."""
        inf = zero + jnp.inf
        return cls(zero, zero, inf, inf, inf)

    def arrive(self, residual: Array, size: Array) -> "Evidence":
        """With a state whose `|f(z) - z|` and `|f(z)|` these are."""
        first = jnp.isinf(self.residual)
        # in another region a residual has to fall anew, if the step that led there has not all but
        # solved the system, and a step far out must find better than there was
        elsewhere = first | (size > GROWTH * self.region) | (GROWTH * size < self.region)
        credit = jnp.where(first, 0, jnp.minimum(LEAP * self.residual, self.lowest))
        bar = jnp.where(elsewhere, jnp.maximum(residual, credit), jnp.inf) / FALL
        start = jnp.where(first, size, self.start)
        # the further out, the more states leave a small residual by rounding alone
        growth = size / jnp.where(start > 0, start, jnp.inf)
        cube_root = jnp.exp(jnp.log(growth) / 3)  # jnp.cbrt is one number at a time on a CPU
        fall = jnp.where(jnp.isfinite(growth), jnp.maximum(FALL, cube_root), FALL)
        far = size + residual > GROWTH * self.region
        bar = jnp.where(far, jnp.minimum(bar, self.lowest / fall), bar)
        return self._replace(
            start=start,
            region=jnp.where(elsewhere, size, self.region),
            below=jnp.minimum(self.below, bar),
        )

    def grown(self, size: Array) -> Array:
        """Whether the state is not of the size any more that it began with."""
        return size > GROWTH * self.start

    def vanished(self, residual: Array, size: Array) -> Array:
        """Whether the state is next to nothing: on the way to 0 no residual is small beside it."""
        return size + residual <= VANISHED * self.start

    def holds(
        self,
        residual: Array,
        size: Array,
        enough: ArrayLike,
        noise: Array,
        damping: ArrayLike,
        absolute: bool,
    ) -> Array:
        """Whether a residual that is below the tolerance is that of a solution.

        Args:
            residual, size: `|f(z) - z|` and `|f(z)|`, which have arrived.
            enough: what is small at the size that the state began with.
            noise: by how much rounding may change `residual`.
            damping: the share of the residual that a step makes.
            absolute: whether the tolerance is: a state that stays about as large as it began may
                then be as far from its solution as that allows.

        At the very start a residual is believed, if it is known well enough to be small.
        """
        first = jnp.isinf(self.residual)
        last = jnp.where(first, residual, self.residual)
        surely = residual + noise
        fallen = surely <= jnp.maximum(enough, self.below)
        # |z - z*| by the rate, which rounding hides at last
        gap = last - residual
        to_go = damping * residual * (last / jnp.where(gap > 0, gap, 1))
        error = jnp.where(residual > noise, jnp.where(gap > 0, to_go, jnp.inf), residual)
        near = error <= self.reach(surely, size)
        if absolute:
            near |= ~self.grown(size)
        return jnp.where(first, noise <= enough, fallen & near)

    def reach(self, residual: Array, size: Array) -> Array:
        """How far from its state the solution may be, where `f(z) - z` has this size."""
        return NEAR * jnp.sqrt(residual) * jnp.sqrt(jnp.maximum(size, self.start))

    def leave(self, residual: Array, finite: Array, again: Array | bool = False) -> "Evidence":
        """After the pass that found this residual, or as if the next was the first `again`."""
        kept = jnp.where(finite, residual, self.residual)
        return self._replace(
            residual=jnp.where(again, jnp.inf, kept),
            lowest=jnp.where(finite, jnp.minimum(residual, self.lowest), self.lowest),
        )
