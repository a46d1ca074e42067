"""Fixed point iteration that asks no questions on the way."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array, lax

from .._checks import check_tau
from .._info import Status
from .._loop import Solution, measure
from .._space import PyTree, Space
from .base import Solver


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimpleFixedPointIter(Solver):
    """`max_iter` damped steps `z <- (1 - tau) z + tau f(z)`, with no statistics in between.

    Nothing is measured or compared while it runs, so there is nothing to synchronise and no early
    stop: one residual at the end says how well it went, and the traces hold nothing else. A
    sample that ends non-finite is handed back as `z0`, with `Status.NONFINITE`.

    An iteration costs one evaluation of `f` and no more; nothing is held but the state. For a fixed
    budget of cheap iterations, or where a collective per iteration is too dear.

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

    def solve(self, f, z0: PyTree, *, space: Space, limit, indexing, loop) -> Solution:
        def one_step(carry, k):
            z, states = carry
            z_next = space.damp(z, f(z), self.tau)
            z = space.where(jnp.broadcast_to(k < limit, space.batch_shape(z)), z_next, z)
            states = tuple(
                jax.tree.map(lambda new, old, i=i: jnp.where(k < i, new, old), z, s)
                for i, s in zip(indexing, states, strict=True)
            )
            return (z, states), None

        start = (z0, (z0,) * len(indexing))
        if loop == "while":
            steps = jnp.minimum(space.largest(limit), self.max_iter)
            z, states = lax.fori_loop(0, steps, lambda k, c: one_step(c, k)[0], start)
        else:
            body = jax.checkpoint(one_step) if loop == "checkpointed scan" else one_step
            (z, states), _ = lax.scan(body, start, jnp.arange(self.max_iter, dtype=limit.dtype))
        made = limit if loop == "while" else jnp.full_like(limit, self.max_iter)
        return self._report(space, z0, z, f(z), states, limit, made)

    def _report(self, space: Space, z0, z, fz, states, limit, made) -> Solution:
        """The outcome, from the one residual that is measured."""
        residual = measure(space, z, fz)
        now = residual.abs if self.stop_mode == "abs" else residual.rel
        tol = self.tolerance(*jax.tree.leaves(z0))
        status = jnp.where(now < tol, Status.CONVERGED, Status.MAX_ITER)
        count = jnp.broadcast_to(limit, now.shape)

        def trace(value):
            return jnp.broadcast_to(known(value)[..., None], (*now.shape, self.max_iter))

        def known(value):
            return jnp.where(residual.finite, value, jnp.inf)

        return Solution(
            z=space.where(residual.finite, z, z0),
            abs_residual=known(residual.abs),
            rel_residual=known(residual.rel),
            steps=jnp.where(residual.finite, count, 0),
            evals=(jnp.broadcast_to(jnp.maximum(made, 0), now.shape) + 1)[..., None],
            status=jnp.where(residual.finite, status, Status.NONFINITE).astype(jnp.int32),
            abs_trace=trace(residual.abs),
            rel_trace=trace(residual.rel),
            states=states,
        )
