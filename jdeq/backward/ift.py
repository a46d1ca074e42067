"""Implicit function theorem: the exact gradient of the solution."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array, lax

from .._info import SolverInfo, Status
from .._loop import Solution
from .._problem import Problem, solve, zero_tangent
from .._space import PyTree
from .._warn import warn_of_failures
from ..solvers.base import Solver
from ..solvers.registry import resolve_solver
from .implicit import Apply, Implicit, explained_forward_mode, solve_implicitly
from .linear_system import solve_linear
from .phantom import PhantomGrad


@dataclasses.dataclass(frozen=True)
class IFT(Implicit):
    """Gradient by the implicit function theorem, by a second fixed point solve.

    From `z* = f(z*, theta)`: `dl/dtheta = (df/dtheta)^T y`, where `y` solves
    `y = v + J^T y` with `J = df/dz` at `z*` and the cotangent `v` of `z*`. Right wherever
    `I - J` is invertible and `z*` is a solution: a large residual makes it wrong by about
    that residual times the conditioning. The gradient with respect to `z0` is zero.

    One linearisation of `f`, then a vector-Jacobian product per backward iteration; memory does
    not depend on the forward solve. Reverse mode may be nested as often as you like.

    A sample whose backward solve ends with a residual above `|v|`, which `y = 0` would undercut,
    or with an adjoint that the dtype cannot hold, gets the Jacobian-free `y = v`; a series of fixed
    length (`"neumann"`, `"simple_fixed_point_iter"`) is taken as it is. `callback` and
    `on_failure="warn"` tell.

    Args:
        solver: backward solver, by name or object. `"auto"`, the default, is plain iteration for
            the samples that converge by it in `max_iter / 2` products, as their measured rate says,
            and GMRES for the others, from there on. `"gmres"` needs the fewest products for any `J`
            and holds up to 32 vectors like `z`, as `"auto"` does where some sample needs it;
            `"broyden"` up to `max_iter`, `"anderson"` ten, `"bicgstab"` a handful,
            `"fixed_point_iter"` none.
        tol, max_iter, stop_mode: the backward solver's, if it is given by name. A `tol` is relative
            to the cotangent in either mode, `|v + J^T y - y| <= tol |v|`, so the scale of the loss
            plays no part; None: three quarters of the digits of `y`. What the `callback` is told
            of are residuals of the system scaled by a power of two, so that `1 <= |v| < 2`.
        forward_mode: allow `jvp`, `jacfwd` and `hessian` too, by way of a linear solve that JAX
            can transpose; a gradient then keeps the linearisation of `f` in memory from the
            forward pass on. Without, forward mode raises an error.
        callback: called on the host with the backward solve's `SolverInfo`, also under `jit`.
        phantom: how sampled intermediate states (`n_states`, `indexing`) are differentiated.

    Raises:
        ValueError, TypeError: unknown solver or option.

    Source: Bai et al., *Deep Equilibrium Models* (2019), thm. 1; TorchDEQ paper, eq. 3.

    Example:
        >>> import jax, jax.numpy as jnp, jdeq
        >>> def root(a):  # z = (z + a / z) / 2
        ...     f = lambda z: 0.5 * (z + a / z)
        ...     return jdeq.deq(f, jnp.ones(()), batch_dims=0, backward=jdeq.IFT("broyden"))[0]
        >>> print(f"{jax.grad(root)(4.0):.4f}")
        0.2500
    """

    solver: str | Solver = "auto"
    tol: float | Array | None = None
    max_iter: int | None = None
    stop_mode: Literal["rel", "abs"] | None = None
    forward_mode: bool = False
    callback: Callable[[SolverInfo], None] | None = None
    phantom: PhantomGrad = PhantomGrad(steps=1)

    def __post_init__(self) -> None:
        _ = self.backward_solver  # raises for an unknown name or option
        if not isinstance(self.phantom, PhantomGrad):
            raise TypeError(f"phantom must be a jdeq.PhantomGrad, got {self.phantom!r}")
        if self.phantom.sup_gap is not None or self.phantom.sup_loc is not None:
            raise ValueError("sup_gap and sup_loc add states of their own: not for IFT's phantom")

    @property
    def backward_solver(self) -> Solver:
        """The solver object that `solver` and its options stand for."""
        names = ("tol", "max_iter", "stop_mode")
        options = {n: getattr(self, n) for n in names if getattr(self, n) is not None}
        return resolve_solver(self.solver, options, affine=True)

    def __call__(self, problem: Problem) -> Solution:
        if self.forward_mode and problem.adjoint0 is not None:
            raise ValueError("adjoint0 does not go with forward_mode=True")
        if self.forward_mode:
            solution = _solve_in_both_modes(self, problem)
        else:
            with explained_forward_mode():
                solution = solve_implicitly(self, problem)
        return self.phantom.sampled(problem, solution)

    def adjoint(self, problem: Problem, pull: Apply, v: PyTree, solution: Solution) -> PyTree:
        return self.solve_linear(problem, pull, v, solve=self, start=problem.adjoint0)

    def solve_linear(
        self,
        problem: Problem,
        apply: Apply,
        v: PyTree,
        *,
        solve: Callable[[Problem], Solution],
        start: PyTree | None = None,
    ) -> PyTree:
        """`y = v + apply(y)`, reported as the backward solve of `problem`."""
        y, adjoint, solution = solve_linear(
            apply,
            v,
            solver=self.backward_solver,
            batch_dims=problem.space.batch_dims,
            axes=problem.space.axes,
            solve=solve,
            start=start,
        )
        good = problem.space.is_finite(y)  # it may be out of the dtype's range
        solution = solution._replace(status=jnp.where(good, solution.status, Status.NONFINITE))
        if self.callback is not None:
            jax.debug.callback(self.callback, adjoint.info(solution))
        if problem.warn:
            warn_of_failures("backward", adjoint.info(solution))
        if not self.backward_solver.fixed_length:
            one = 2 * jnp.frexp(lax.stop_gradient(problem.space.norm(v)))[0]  # |v| as it was scaled
            good &= solution.abs_residual <= one
        return problem.space.where(good, y, v)


@jax.custom_jvp
def _solve_in_both_modes(ift: IFT, problem: Problem) -> Solution:
    """The solution; its tangent is that of `z`, from a linear solve that JAX can transpose."""
    return solve(problem)


@_solve_in_both_modes.defjvp
def _solve_in_both_modes_jvp(primals: Any, tangents: Any) -> tuple[Solution, Solution]:
    ift, problem = primals
    space, solution = problem.space, _solve_in_both_modes(ift, problem)
    _, push = jax.linearize(problem.f, solution.z)
    at_solution = lambda consts: problem.function(consts, solution.z)
    _, moved = jax.jvp(at_solution, (problem.consts,), (tangents[1].consts,))

    def tangent(matvec: Apply, v: PyTree) -> PyTree:  # matvec(t) = t - J t
        apply = lambda t: space.sub(t, matvec(t))
        return ift.solve_linear(problem, apply, v, solve=Problem.solve_detached)

    z_dot = lax.custom_linear_solve(
        lambda t: space.sub(t, push(t)), moved, tangent, transpose_solve=tangent
    )
    return solution, zero_tangent(solution)._replace(z=z_dot)
