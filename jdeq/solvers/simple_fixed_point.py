"""Fixed point iteration that asks no questions on the way."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array, lax

from .._checks import check_tau
from .._evidence import Evidence
from .._info import Status
from .._loop import Solution, judge, measure
from .._space import PyTree, Space
from .base import Solver


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimpleFixedPointIter(Solver):
    """`max_iter` damped steps `z <- (1 - tau) z + tau f(z)`, and no question in between.

    Nothing is decided while it runs, so there is nothing to synchronise and no early stop: one
    residual at the end says how well it went, and the traces hold nothing else; those on the way
    only help to tell a solution from a state that ran away. A sample that ends non-finite is
    handed back as `z0`, with `Status.NONFINITE`.

    An iteration costs one evaluation of `f` and two norms; nothing is held but the state. For a
    fixed budget of cheap iterations.

    Args:
        tau: damping, in (0, 2].

    Source: as `FixedPointIter`.

    Example:
        >>> import jax.numpy as jnp, jdeq
        >>> solver = jdeq.SimpleFixedPointIter(max_iter=4)
        >>> z, info = jdeq.deq(lambda z: 0.5 * z + 1, jnp.zeros((1, 1)), solver=solver)
        >>> float(z[0, 0]), float(info.abs_residual[0])
        (1.875, 0.0625)
    """

    tau: float | Array = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_tau(self.tau)

    @property
    def differentiates(self) -> bool:
        return False

    @property
    def fixed_length(self) -> bool:
        return True

    def solve(self, f, z0: PyTree, *, space: Space, limit, indexing, loop) -> Solution:
        def one_step(carry, k):
            z, states, evidence = carry
            fz, going = f(z), jnp.broadcast_to(k < limit, space.batch_shape(z))
            z_next = space.where(going, space.damp(z, fz, self.tau), z)
            states = tuple(
                jax.tree.map(lambda new, old, i=i: jnp.where(k < i, new, old), z_next, s)
                for i, s in zip(indexing, states, strict=True)
            )
            residual = measure(space, z, fz)
            seen = evidence.arrive(residual.abs, residual.size)
            seen = seen.leave(residual.abs, residual.finite)
            evidence = space.where(going, seen, evidence)
            return (z_next, states, evidence), None

        zero = jnp.zeros_like(space.dot(z0, z0))
        start = (z0, (z0,) * len(indexing), Evidence.none(zero))
        if loop == "while":
            steps = jnp.minimum(space.largest(limit), self.max_iter)
            end = lax.fori_loop(0, steps, lambda k, c: one_step(c, k)[0], start)
        else:
            body = jax.checkpoint(one_step) if loop == "checkpointed scan" else one_step
            end, _ = lax.scan(body, start, jnp.arange(self.max_iter, dtype=limit.dtype))
        z, states, evidence = end
        made = limit if loop == "while" else jnp.full_like(limit, self.max_iter)
        return self._report(space, z0, z, f(z), states, limit, made, evidence)

    def _report(self, space: Space, z0, z, fz, states, limit, made, evidence: Evidence) -> Solution:
        """The outcome, by the residual of the last state."""
        residual = measure(space, z, fz)
        evidence = evidence.arrive(residual.abs, residual.size)
        verdict = judge(self, z0, residual, evidence)
        astray = verdict.small & evidence.grown(residual.size)
        status = jnp.where(astray, Status.DIVERGED, Status.MAX_ITER)
        status = jnp.where(verdict.converged, Status.CONVERGED, status)
        count = jnp.broadcast_to(limit, status.shape)

        def trace(value):
            return jnp.broadcast_to(known(value)[..., None], (*status.shape, self.max_iter))

        def known(value):
            return jnp.where(residual.finite, value, jnp.inf)

        return Solution(
            z=space.where(residual.finite, z, z0),
            abs_residual=known(residual.abs),
            rel_residual=known(residual.rel),
            steps=jnp.where(residual.finite, count, 0),
            evals=(jnp.broadcast_to(jnp.maximum(made, 0), status.shape) + 1)[..., None],
            status=jnp.where(residual.finite, status, Status.NONFINITE).astype(jnp.int32),
            abs_trace=trace(residual.abs),
            rel_trace=trace(residual.rel),
            states=states,
        )
