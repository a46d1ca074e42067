"""The books on a solve by products with a linear map, and the rule that ends a cycle of them."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from ..._loop import relative


class Log(NamedTuple):
    """The books on products with A, per sample.

    `products` (*batch,) int32 counts them; `active` holds while the sample's cycle goes on;
    `finite` is False once a product was not; `record` is the lowest residual of the cycle, as
    estimated, and `steps` the product it came with; the traces are (*batch, max_iter).
    """

    products: Array
    active: Array
    finite: Array
    record: Array
    steps: Array
    abs_trace: Array
    rel_trace: Array


@dataclasses.dataclass(frozen=True, eq=False)
class Rule:
    """Ends a sample's cycle: the residual estimate is below `tol`, or `limit` products made.

    In whatever mode, an absolute estimate of at most `enough` ends it too, one above `bar` never.
    """

    stop_mode: str
    tol: ArrayLike
    limit: Array
    enough: ArrayLike = 0.0
    bar: ArrayLike = jnp.inf

    def book(
        self,
        log: Log,
        absolute: Array,
        size: Array,
        *,
        usable: Array,
        finite: Array,
        slack: ArrayLike = 0,
    ) -> tuple[Log, Array]:
        """Books a product of the active samples.

        Args:
            absolute, size: the estimates of `||f(y) - y||` and `||f(y)||` after it.
            usable: False where the method broke down: the cycle ends, the numbers do not count.
            finite: whether the product was.
            slack: by how much `||f(y)||` may be less than `size`.

        Returns:
            The log, and which samples now have their lowest residual.
        """
        rel = relative(absolute, size)
        highest = relative(absolute, jnp.maximum(size - slack, 0))
        now, sure = (absolute, absolute) if self.stop_mode == "abs" else (rel, highest)
        good = log.active & usable & jnp.isfinite(now)
        met = (sure < self.tol) & (absolute <= self.bar)
        take = good & (now < log.record)
        products = log.products + log.active.astype(jnp.int32)
        log = Log(
            products=products,
            active=good & ~met & (absolute > self.enough) & (products < self.limit),
            finite=log.finite & (finite | ~log.active),
            record=jnp.where(take, now, log.record),
            steps=jnp.where(take, products, log.steps),
            abs_trace=write(log.abs_trace, log.products, absolute, good),
            rel_trace=write(log.rel_trace, log.products, rel, good),
        )
        return log, take


def write(trace: Array, column: Array, value: Array, mask: Array) -> Array:
    """The trace with `value` in each sample's own column, where `mask` holds."""
    here = lax.broadcasted_iota(jnp.int32, trace.shape, trace.ndim - 1) == column[..., None]
    return jnp.where(here & mask[..., None], value[..., None], trace)


def read(trace: Array, column: Array) -> Array:
    """What each sample's own column of the trace holds; 0 where there is no such column."""
    here = lax.broadcasted_iota(jnp.int32, trace.shape, trace.ndim - 1) == column[..., None]
    return jnp.sum(jnp.where(here, trace, 0), -1)
