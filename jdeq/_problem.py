"""A fixed point problem, ready to be solved and differentiated."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, core

from ._info import SolverInfo, Status
from ._loop import Solution, measure
from ._reuse import reuse
from ._space import PyTree, Space
from ._trace import Pure, check_state, trace
from .solvers.base import Solver


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """`z = pure(consts, z)` with its start, its solver and what to report.

    Attributes:
        pure: `f` with everything it closed over as its first argument.
        consts: those values.
        z0: start state.
        limit: int32 `(1,) * batch_dims`: most iterations, at most `solver.max_iter`.
        solver: the forward solver.
        space: the algebra for states like `z0`.
        indexing: iterations at which states are sampled.
        warn: print a line where a solve, forward or backward, does not converge.
        keep_memory: hand out the solver's own last state with the solution.
        adjoint0: where the backward solve starts; a state, or None.
    """

    pure: Pure
    consts: list[Any]
    z0: PyTree
    limit: Array
    solver: Solver
    space: Space
    indexing: tuple[int, ...] = ()
    warn: bool = False
    keep_memory: bool = False
    adjoint0: PyTree = None

    @classmethod
    def build(
        cls,
        f: Callable[[PyTree], PyTree],
        z0: PyTree,
        solver: Solver,
        *,
        batch_dims: int,
        limit: Array | None = None,
        indexing: tuple[int, ...] = (),
        warn: bool = False,
    ) -> "Problem":
        """Traces and checks `f` and `z0`; raises as `check_state` and `trace` do."""
        z0 = check_state(z0, batch_dims)
        pure, consts, z0 = trace(f, z0)
        bound = jnp.asarray(solver.max_iter, jnp.int32)
        if limit is None:
            limit = bound
        elif limit.ndim:
            raise ValueError(f"max_iter must be one integer, got an array of shape {limit.shape}")
        else:
            limit = jnp.clip(limit.astype(jnp.int32), 0, bound)
        limit = limit.reshape((1,) * batch_dims)
        return cls(pure, consts, z0, limit, solver, Space(batch_dims), indexing, warn)

    def f(self, z: PyTree) -> PyTree:
        return self.pure(self.consts, z)

    def solve(self, consts: list[Any], z0: PyTree, limit: Array) -> Solution:
        """Solves without a derivative rule; `jax.vmap` of it is one batched solve."""
        run = _solve(self.pure, self.solver, self.space, self.indexing, self.keep_memory)
        return run(consts, z0, limit)

    def unroll(self, loop: Literal["scan", "checkpointed scan"]) -> Solution:
        """Solves by a fixed number of passes that autodiff can go through."""

        def run(consts, z0, limit):
            return self.solver.solve(
                lambda z: self.pure(consts, z),
                z0,
                space=self.space,
                limit=limit,
                indexing=self.indexing,
                loop=loop,
            )

        settings = loop, self.solver, self.space, self.indexing
        return self.reuse(run, settings, self.z0, self.limit)

    def reuse(self, run: Callable[..., Any], settings: Any, z: PyTree, *more: Any) -> Any:
        """`run(consts, z, *more)` for a `run` that autodiff may go through; see `_reuse.reuse`."""
        args = self.consts, z, *more
        traced = any(isinstance(x, core.Tracer) for x in jax.tree.leaves(args))
        needs = "all derivatives" if traced else "values"
        return reuse(run, self.pure, settings, *args, needs=needs)

    def solve_detached(self) -> Solution:
        """Solves; the outcome has zero derivative, in forward and reverse mode."""

        @jax.custom_jvp
        def detached(consts, z0, limit):
            return self.solve(consts, z0, limit)

        @detached.defjvp
        def detached_jvp(primals, _):
            solution = detached(*primals)
            return solution, zero_tangent(solution)

        return detached(self.consts, self.z0, self.limit)

    def remeasure(self, solution: Solution, z: PyTree) -> Solution:
        """The solution with `z` instead, its residual measured: `f` is evaluated once.

        A sample whose residual is no longer below tol is not converged, one whose residual has
        come below is. Where `f(z)` is not finite the solution's own state stays.
        """
        residual = measure(self.space, z, self.f(z))
        good = residual.finite
        now = residual.abs if self.solver.stop_mode == "abs" else residual.rel
        tol = self.solver.tolerance(*jax.tree.leaves(z))
        left = jnp.where(solution.status == Status.CONVERGED, Status.STALLED, solution.status)
        status = jnp.where(now < tol, Status.CONVERGED, left)
        return solution._replace(
            z=self.space.where(good, z, solution.z),
            abs_residual=jnp.where(good, residual.abs, solution.abs_residual),
            rel_residual=jnp.where(good, residual.rel, solution.rel_residual),
            status=jnp.where(good, status, Status.NONFINITE).astype(jnp.int32),
        )

    def info(self, solution: Solution) -> SolverInfo:
        """What the outcome says of the solve, without its states."""
        return SolverInfo(
            abs_residual=solution.abs_residual,
            rel_residual=solution.rel_residual,
            steps=solution.steps,
            nfe=jnp.max(solution.evals, initial=0),
            status=solution.status,
            abs_trace=solution.abs_trace,
            rel_trace=solution.rel_trace,
        )


def _solve(
    pure: Pure, solver: Solver, space: Space, indexing: tuple[int, ...], keep_memory: bool
) -> Callable[[list[Any], PyTree, Array], Solution]:
    """The solve as a function whose `vmap` is a solve with one more batch axis."""

    def run(consts, z0, limit):
        solution = solver.solve(
            lambda z: pure(consts, z),
            z0,
            space=space,
            limit=limit,
            indexing=indexing,
            loop="while",
        )
        return solution if keep_memory else solution._replace(memory=())

    @jax.custom_batching.custom_vmap
    def solve(consts, z0, limit):
        settings = "solve", solver, space, indexing, keep_memory
        needs = "gradients" if solver.differentiates else "values"
        return reuse(run, pure, settings, consts, z0, limit, needs=needs)

    @solve.def_vmap
    def solve_lanes(axis_size, batched, consts, z0, limit):
        const_lanes, z0_lanes, limit_lanes = batched
        axes = [0 if lanes else None for lanes in const_lanes]
        lanes = jax.vmap(pure, in_axes=(axes, 0), axis_size=axis_size)
        z0 = jax.tree.map(
            lambda x, lane: x if lane else jnp.broadcast_to(x[None], (axis_size, *x.shape)),
            z0,
            z0_lanes,
        )
        limit = limit if limit_lanes else limit[None]
        run = _solve(lanes, solver, Space(space.batch_dims + 1), indexing, keep_memory)
        solution = run(consts, z0, limit)
        return solution, jax.tree.map(lambda _: True, solution)

    return solve


def zero_tangent(tree: PyTree) -> PyTree:
    """Zeros of the tangent type of each leaf: float0 for integers."""

    def leaf(x: Array) -> Any:
        if jnp.issubdtype(x.dtype, jnp.floating):
            return jnp.zeros_like(x)
        return np.zeros(x.shape, jax.dtypes.float0)

    return jax.tree.map(leaf, tree)
