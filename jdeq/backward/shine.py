"""SHINE: the forward solver's inverse Jacobian, used again for the gradient."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from .._checks import check_int, check_scalar
from .._loop import Solution
from .._problem import Problem
from .._space import PyTree, Space
from ..solvers.base import InverseEstimator, Solver
from .ift import IFT
from .implicit import Apply, Implicit, explained_forward_mode, solve_implicitly
from .linear_system import solve_linear
from .phantom import PhantomGrad


@dataclasses.dataclass(frozen=True)
class SHINE(Implicit):
    """Implicit gradient without a backward solve: reuses the inverse that the solver has built.

    The adjoint is estimated by `y = -B^T v`, with `B` the forward solver's inverse Jacobian of
    `f(z) - z` at the returned state: Broyden's, or the multisecant one of Anderson's last window.
    The solver needs `B` along its own steps only, so for other `v` it may be far off, most of all
    on symmetric spectra near 1. Hence the guard: a sample whose estimate is longer than
    `max_ratio |v|` gets `y = v`, the Jacobian-free gradient. So does one that Anderson did not
    bring to convergence: its window has moved on from the returned state.

    Costs what JFB does, one vector-Jacobian product, plus two reads of the solver's history, which
    is kept for the backward pass. Each refinement step adds a product. Needs `solver="broyden"`
    with `memory=None`, or `"anderson"`.

    Args:
        max_ratio: the guard's bound.
        refine: iterations of the `refine_with` solver on `y = v + J^T y`, started at the estimate;
            the gradient becomes exact as they grow.
        refine_with: name or object of that solver; an object brings its own `max_iter`.
        phantom: how sampled intermediate states are differentiated.

    Raises:
        TypeError: the forward solver builds no inverse, or does not keep all of it.

    Source: Ramzi et al., *SHINE: SHaring the INverse Estimate from the forward pass for bi-level
    optimization and implicit models* (2022); theirs uses bounds of 1.3 and 1.8.

    Example:
        >>> import jax, jax.numpy as jnp, jdeq
        >>> def total(b):
        ...     f = lambda z: jnp.tanh(0.5 * z + b)
        ...     return jdeq.deq(f, jnp.zeros((2, 1)), solver="broyden", backward="shine")[0].sum()
        >>> jax.grad(total)(jnp.ones((2, 1))).shape
        (2, 1)
    """

    max_ratio: float | Array = 1.3
    refine: int = 0
    refine_with: str = "fixed_point_iter"
    phantom: PhantomGrad = PhantomGrad(steps=1)

    def __post_init__(self) -> None:
        check_scalar("max_ratio", self.max_ratio, low=1)
        check_int("refine", self.refine, low=0)
        if self.refine:
            _ = self._refinement.backward_solver  # raises for an unknown name

    @property
    def _refinement(self) -> IFT:
        return IFT(solver=self.refine_with, max_iter=self.refine)

    def __call__(self, problem: Problem) -> Solution:
        solver = self._remembering(problem.solver)
        problem = dataclasses.replace(problem, solver=solver, keep_memory=True)
        with explained_forward_mode():
            solution = solve_implicitly(self, problem)
        return self.phantom.sampled(problem, solution)._replace(memory=())

    def adjoint(self, problem: Problem, pull: Apply, v: PyTree, solution: Solution) -> PyTree:
        y = _guarded_estimate(self, problem.solver, problem.space, v, solution)
        if not self.refine:
            return y
        return solve_linear(
            pull,
            v,
            start=y,
            solver=self._refinement.backward_solver,
            batch_dims=problem.space.batch_dims,
            axes=problem.space.axes,
            solve=self._refinement,
        )[0]

    def _remembering(self, solver: Solver) -> Any:
        needs = "SHINE needs the solver 'anderson', or 'broyden' with memory=None"
        if not isinstance(solver, InverseEstimator):
            raise TypeError(f"{needs}; got {solver!r}")
        try:
            return solver.remembering()
        except ValueError as error:
            raise TypeError(f"{needs}: {error}") from error


@functools.partial(jax.jit, static_argnames="space")  # eager calls share one program
def _guarded_estimate(
    shine: SHINE, solver: Any, space: Space, v: PyTree, solution: Solution
) -> PyTree:
    y = solver.apply_transposed_inverse(space, solution, v)
    longest = jnp.asarray(shine.max_ratio, space.dot(v, v).dtype) * space.norm(v)
    short = space.norm(y) <= longest  # NaN is not
    return space.where(jnp.logical_and(short, space.is_finite(y)), y, v)
