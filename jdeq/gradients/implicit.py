"""The reverse rule that implicit gradients share."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from .._loop import Solution
from .._problem import Problem
from .._space import PyTree

Apply = Callable[[PyTree], PyTree]


def solve_implicitly(
    problem: Problem, adjoint: Callable[[Apply, PyTree, Solution], PyTree]
) -> Solution:
    """Solves `problem`; in reverse mode `z` depends on what `f` closes over, not on `z0`.

    Args:
        problem: to be solved.
        adjoint: `(pull_z, v, solution) -> y`, the solution of `y = v + J^T y`, where `pull_z`
            multiplies with `J^T` at the solution and `v` is the cotangent of `z`.

    Raises:
        TypeError: when differentiated in forward mode; the message says what to use.
    """

    @jax.custom_vjp
    def implicit(consts, z0, limit):
        return problem.solve(consts, z0, limit)

    def forward(consts, z0, limit):
        solution = implicit(consts, z0, limit)
        return solution, (consts, solution)

    def backward(saved, cotangent: Solution):
        consts, solution = saved
        z = solution.z
        _, pull_z = jax.vjp(lambda z: problem.pure(consts, z), z)
        _, pull_consts = jax.vjp(lambda consts: problem.pure(consts, z), consts)
        y = adjoint(lambda y: pull_z(y)[0], cotangent.z, solution)
        return pull_consts(y)[0], jax.tree.map(jnp.zeros_like, z), None

    implicit.defvjp(forward, backward)
    try:
        return implicit(problem.consts, problem.z0, problem.limit)
    except TypeError as error:
        if "custom_vjp" not in str(error):
            raise
        raise TypeError(
            "forward-mode differentiation (jvp, jacfwd, hessian) of an implicit solve: use "
            "backward=jdeq.IFT(forward_mode=True), or 'phantom', 'jfb' or 'unroll'"
        ) from error
