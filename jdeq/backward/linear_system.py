"""Linear fixed point systems `y = v + A y`, the ones that implicit derivatives solve."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from .._loop import Solution
from .._powers import floor_log2
from .._problem import Problem
from .._space import PyTree, Space
from ..solvers.base import Solver


def solve_linear(
    apply: Callable[[PyTree], PyTree],
    v: PyTree,
    *,
    solver: Solver,
    batch_dims: int,
    solve: Callable[[Problem], Solution],
    start: PyTree | None = None,
    axes: tuple[str, ...] = (),
) -> tuple[PyTree, Problem, Solution]:
    """Solves `y = v + apply(y)` with `apply` linear, each sample scaled so that `1 <= |v| < 2`.

    So the scale of a loss does not matter, and small cotangents do not underflow. The scale is a
    power of two: it changes no digit. A `tol` that was asked for is one of the scaled residual
    `|v + apply(y) - y|`, whatever the `stop_mode`, so that a success leaves at most `tol |v|`. None
    is what the dtype can tell: of `y`, which may be larger than `v`.

    Args:
        apply: the linear map.
        v: right-hand side.
        solver: of the fixed point problem.
        batch_dims: leading axes of `v` that count samples.
        solve: solves the scaled problem and attaches derivatives.
        start: first `y`; `v` by default.
        axes: mesh or `vmap` axes over which the vectors are split, `problem.space.axes`.

    Returns:
        `y`, and the scaled problem with its solution.
    """
    space = Space(batch_dims, axes)
    norm = jax.lax.stop_gradient(space.norm(v))
    usable = (norm > 0) & jnp.isfinite(norm)
    exponent = floor_log2(jnp.where(usable, norm, 1))
    half = exponent >> 1
    # two factors, each of which, and whose inverse, the dtype can hold
    factors = [jnp.ldexp(jnp.ones_like(norm), part) for part in (half, exponent - half)]

    def shrunk(x: PyTree) -> PyTree:
        return functools.reduce(lambda x, factor: space.scale(x, 1 / factor), factors, x)

    def grown(x: PyTree) -> PyTree:
        return functools.reduce(space.scale, factors, x)

    unit = shrunk(v)
    y0, solver = (unit, solver.from_constant()) if start is None else (shrunk(start), solver)
    if solver.tol is not None:
        solver = solver.with_absolute_tol()
    f = lambda y: space.add(unit, apply(y))
    problem = Problem.build(f, y0, solver, batch_dims=batch_dims, ordinary=True)
    solution = solve(problem)
    return grown(solution.z), problem, solution
