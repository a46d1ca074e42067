"""The fixed point iteration of TorchDEQ, for comparisons to the last digit."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

import jdeq
from jdeq.extend import Solution, Space

UNMET = 1e8  # residual before the first one
REL_EPS = 1e-9


@dataclasses.dataclass(frozen=True, kw_only=True)
class TogetherIteration(jdeq.Solver):
    """Plain iteration whose samples depend on each other, so that none is held while others go on.

    All stop when the largest residual is below `tol`. Each hands back the image of the state in
    which its own residual was lowest, so the outcome may be of several iterations; `steps` counts
    them from 1 on. No sample of it is said to have converged.
    """

    @property
    def differentiates(self) -> bool:
        return False

    def solve(self, f, z0, *, space: Space, limit: Array, indexing, loop) -> Solution:
        zero = jnp.zeros_like(space.dot(z0, z0))
        unmet, count = zero + UNMET, zero.astype(jnp.int32)
        trace = jnp.broadcast_to(unmet[..., None], (*unmet.shape, self.max_iter))
        best = Solution(
            z=z0,
            abs_residual=unmet,
            rel_residual=unmet,
            steps=count,
            evals=count[..., None],
            status=count + jdeq.Status.MAX_ITER,
            abs_trace=trace,
            rel_trace=trace,
            states=(),
        )
        absolute = self.stop_mode == "abs"
        last = jnp.min(limit)

        def unfinished(carry: Any) -> Array:
            k, _, _, worst = carry
            return (k < last) & ~(worst < self.tolerance(z0))

        def step(carry: Any) -> Any:
            k, z, best, _ = carry
            fz = f(z)
            gap, size = space.gap_and_norm(z, fz)
            rel = gap / (size + REL_EPS)
            now, lowest = (gap, best.abs_residual) if absolute else (rel, best.rel_residual)
            take = now < lowest
            best = best._replace(
                z=space.where(take, fz, best.z),
                abs_residual=jnp.where(take, gap, best.abs_residual),
                rel_residual=jnp.where(take, rel, best.rel_residual),
                steps=jnp.where(take, k + 1, best.steps),
                evals=best.evals + 1,
                abs_trace=_written(best.abs_trace, gap, k),
                rel_trace=_written(best.rel_trace, rel, k),
            )
            return k + 1, fz, best, jnp.max(now)

        start = (jnp.int32(0), z0, best, jnp.max(unmet))
        return lax.while_loop(unfinished, step, start)[2]


def _written(trace: Array, residual: Array, k: Array) -> Array:
    """The residuals after iteration k, and in place of all that follow."""
    later = jnp.broadcast_to(jnp.arange(trace.shape[-1]) >= k, trace.shape)
    return jnp.where(later, residual[..., None], trace)
