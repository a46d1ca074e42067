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
FALL = 3.0  # by how much the residual must have come down since it came there
NEAR = 0.5  # times the geometric mean of residual and state: what an error may be estimated at
LEAP = 1e-3  # a step that leaves no more than this of the residual may lead anywhere


class Evidence(NamedTuple):
    """What a sample's earlier passes say of its next small residual; all `(*batch,)`.

    `start` and `highest` are the first and the largest `|f(z)|`; `region` is `|f(z)|` where the
    state came to about its present size, `entry` the residual it had there. `residual` is the last
    residual, infinite before the first pass, and `moved` the length of the step from there;
    `lowest` is the lowest residual, and `bar` what was the lowest before a step led far away,
    infinite as long as none did.
    """

    start: Array
    highest: Array
    region: Array
    entry: Array
    residual: Array
    moved: Array
    lowest: Array
    bar: Array

    @classmethod
    def none(cls, zero: Array) -> "Evidence":
        """Before the first pass; `zero` is (*batch,)."""
        inf = zero + jnp.inf
        return cls(zero, zero, zero, inf, inf, zero, inf, inf)

    def arrive(self, residual: Array, size: Array) -> "Evidence":
        """With a state whose `|f(z) - z|` and `|f(z)|` these are; `residual` is still the last."""
        first = jnp.isinf(self.residual)
        far = ~first & (self.moved > GROWTH * self.region)
        elsewhere = first | (size > GROWTH * self.region) | (GROWTH * size < self.region)
        credit = jnp.where(first, 0, jnp.minimum(LEAP * self.residual, self.lowest))
        return self._replace(
            start=jnp.where(first, size, self.start),
            highest=jnp.maximum(self.highest, size),
            region=jnp.where(elsewhere, size, self.region),
            entry=jnp.where(elsewhere, jnp.maximum(residual, credit), self.entry),
            lowest=jnp.minimum(self.lowest, residual),
            bar=jnp.where(far, jnp.minimum(self.bar, self.lowest), self.bar),
        )

    def grown(self, size: Array) -> Array:
        """Whether the state is not of the size any more that it began with."""
        return size > GROWTH * self.start

    def holds(self, residual: Array, size: Array, enough: ArrayLike, noise: Array) -> Array:
        """Whether a residual that is below the tolerance is that of a solution.

        Args:
            residual, size: `|f(z) - z|` and `|f(z)|`, which have arrived.
            enough: what is small at the size that the state began with.
            noise: by how much rounding may change `residual`.

        At the very start a residual is believed, if it is known well enough to be small.
        """
        first = jnp.isinf(self.residual)
        last = jnp.where(first, residual, self.residual)
        surely = residual + noise
        fallen = (surely <= enough) | (surely <= jnp.minimum(self.entry / FALL, self.bar))
        # |z - z*| by how far the last step came with what it took off, and by the rate, which
        # rounding hides at last
        left = jnp.maximum(residual, noise / 8)
        reach = self.moved * jnp.where(left > 0, left / jnp.maximum(last, left), 0)
        gap = last - residual
        rate = jnp.where(gap > 0, residual * (last / jnp.where(gap > 0, gap, 1)), jnp.inf)
        error = jnp.maximum(reach, jnp.where(residual > noise, rate, residual))
        near = error <= NEAR * jnp.sqrt(surely) * jnp.sqrt(self.highest)
        return jnp.where(first, noise <= enough, fallen & near)

    def leave(self, residual: Array, finite: Array, moved: Array) -> "Evidence":
        """With the length of the step from the state that has arrived."""
        return self._replace(
            residual=jnp.where(finite, residual, self.residual),
            moved=jnp.where(finite, moved, self.moved),
        )
