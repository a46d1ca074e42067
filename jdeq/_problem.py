"""A fixed point problem, ready to be solved and differentiated."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ._communication import axes_of
from ._hoist import Function, hoist
from ._info import SolverInfo, Status
from ._loop import Solution, measure
from ._programs import reuse
from ._space import PyTree, Space
from ._state import check_state
from .solvers.base import Solver


def _static(**kwargs: Any) -> Any:
    return dataclasses.field(metadata={"static": True}, **kwargs)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """`z = function(consts, z)` with its start, its solver and what to report.

    A pytree: what is static makes up its structure, the specification of the solve; the leaves are
    its values. So derivative rules are functions of problems and close over nothing.

    Attributes:
        function: `f` with everything it closed over as its first argument; static.
        consts: those values.
        z0: start state.
        limit: int32 `(1,) * batch_dims`: most iterations, at most `solver.max_iter`.
        solver: the forward solver; arrays among its settings are values.
        space: the algebra for states like `z0`; static.
        indexing: iterations at which states are sampled; static.
        warn: print a line where a solve, forward or backward, does not converge; static.
        keep_memory: hand out the solver's own last state with the solution; static.
        adjoint0: where the backward solve starts; a state, or None.
    """

    function: Function = _static()
    consts: list[Any]
    z0: PyTree
    limit: Array
    solver: Solver
    space: Space = _static()
    indexing: tuple[int, ...] = _static(default=())
    warn: bool = _static(default=False)
    keep_memory: bool = _static(default=False)
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
        ordinary: bool = False,
    ) -> "Problem":
        """Traces and checks `f` and `z0`; raises as `check_state` and `hoist` do.

        `ordinary`: of vectors that are scaled, see `Space`.
        """
        z0 = check_state(z0, batch_dims)
        function, consts, z0 = hoist(f, z0)
        bound = jnp.asarray(solver.max_iter, jnp.int32)
        if limit is None:
            limit = bound
        else:
            limit = jnp.clip(limit.astype(jnp.int32), 0, bound)
        return cls(
            function=function,
            consts=consts,
            z0=z0,
            limit=limit.reshape((1,) * batch_dims),
            solver=solver,
            space=Space(batch_dims, *axes_of(function, z0), ordinary=ordinary),
            indexing=indexing,
            warn=warn,
        )

    def f(self, z: PyTree) -> PyTree:
        """The equilibrium function."""
        return self.function(self.consts, z)

    def solve_detached(self) -> Solution:
        """Solves; the outcome has zero derivative, in forward and reverse mode."""
        return _solve_detached(self)

    def remeasure(self, solution: Solution, z: PyTree) -> Solution:
        """The solution with `z` instead, its residual measured: `f` is evaluated once.

        A sample whose residual is no longer below tol is not converged, one whose residual has
        come below is; `solver_status` keeps what it was. Where `f(z)` is not finite the solution's
        own state stays.
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
            solver_status=solution.status,
        ).after(1)

    def info(self, solution: Solution) -> SolverInfo:
        """What the outcome says of the solve, without its states."""
        before = solution.solver_status
        return SolverInfo(
            abs_residual=solution.abs_residual,
            rel_residual=solution.rel_residual,
            steps=solution.steps,
            nfe=solution.nfe,
            status=solution.status,
            solver_status=solution.status if before is None else before,
            abs_trace=solution.abs_trace,
            rel_trace=solution.rel_trace,
        )


def solve(problem: Problem) -> Solution:
    """Solves without a derivative rule; `jax.vmap` of it is one batched solve."""
    needs = "gradients" if problem.solver.differentiates else "values"
    return reuse(_run, problem, needs=needs)


def _run(function: Function, problem: Problem) -> Solution:
    solution = problem.solver.solve(
        lambda z: function(problem.consts, z),
        problem.z0,
        space=problem.space,
        limit=problem.limit,
        indexing=problem.indexing,
        loop="while",
    )
    return solution if problem.keep_memory else solution._replace(memory=())


@jax.custom_jvp
def _solve_detached(problem: Problem) -> Solution:
    return solve(problem)


@_solve_detached.defjvp
def _solve_detached_jvp(primals: Any, _: Any) -> tuple[Solution, Solution]:
    solution = _solve_detached(*primals)
    return solution, zero_tangent(solution)


def zero_tangent(tree: PyTree) -> PyTree:
    """Zeros of the tangent type of each leaf: float0 for integers and keys."""

    def leaf(x: Array) -> Any:
        if jnp.issubdtype(x.dtype, jnp.floating):
            return jnp.zeros_like(x)
        return np.zeros(x.shape, jax.dtypes.float0)

    return jax.tree.map(leaf, tree)
