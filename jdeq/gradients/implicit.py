"""The reverse rule that implicit gradients share."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from .._loop import Solution
from .._problem import Problem
from .._space import PyTree

Apply = Callable[[PyTree], PyTree]


def solve_implicitly(
    problem: Problem, adjoint: Callable[[Apply, PyTree, Solution, PyTree | None], PyTree]
) -> Solution:
    """Solves `problem`; in reverse mode `z` depends on what `f` closes over, not on `z0`.

    The cotangent of `problem.adjoint0`, which has no influence on `z`, is `y` by definition.

    Args:
        problem: to be solved.
        adjoint: `(pull_z, v, solution, y0) -> y`, the solution of `y = v + J^T y`, where `pull_z`
            multiplies with `J^T` at the solution, `v` is the cotangent of `z` and `y0` where to
            start, if there is such a place.

    Raises:
        TypeError: when differentiated in forward mode; the message says what to use.
    """

    @jax.custom_vjp
    def implicit(consts, z0, limit, adjoint0):
        return problem.solve(consts, z0, limit)

    def forward(consts, z0, limit, adjoint0):
        solution = implicit(consts, z0, limit, adjoint0)
        return solution, (consts, solution, adjoint0)

    def backward(saved, cotangent: Solution):
        consts, solution, adjoint0 = saved
        z = solution.z
        _, pull_z = jax.vjp(lambda z: problem.pure(consts, z), z)
        _, pull_consts = jax.vjp(lambda consts: problem.pure(consts, z), consts)
        y = adjoint(lambda y: pull_z(y)[0], cotangent.z, solution, adjoint0)
        found = None if adjoint0 is None else y
        return pull_consts(y)[0], jax.tree.map(jnp.zeros_like, z), None, found

    implicit.defvjp(forward, backward)
    try:
        return implicit(problem.consts, problem.z0, problem.limit, problem.adjoint0)
    except TypeError as error:
        if "custom_vjp" not in str(error):
            raise
        raise TypeError(
            "forward-mode differentiation (jvp, jacfwd, hessian) of an implicit solve: use "
            "backward=jdeq.IFT(forward_mode=True), or 'phantom', 'jfb' or 'unroll'"
        ) from error
