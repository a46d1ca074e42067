"""The reverse rule that implicit gradients share."""

import abc
import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import core
from jax.extend import core as jex

from .._jaxprs import without_values
from .._loop import Solution
from .._problem import Problem, solve, zero_tangent
from .._space import PyTree
from .base import Backward

Apply = Callable[[PyTree], PyTree]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Recorded:
    """A function that was traced where the axes were known that it communicates over."""

    jaxpr: jex.Jaxpr = dataclasses.field(metadata={"static": True})
    tree: Any = dataclasses.field(metadata={"static": True})
    consts: list[Any]

    @classmethod
    def of(cls, function: Callable[..., Any], *args: Any) -> "Recorded":
        # one call of a compiled function, which is not traced again when it is evaluated
        traced, out = jax.make_jaxpr(jax.jit(lambda *a: function(*a)), return_shape=True)(*args)
        return cls(without_values(traced), jax.tree.structure(out), list(traced.consts))

    def __call__(self, *args: Any) -> Any:
        flat = core.eval_jaxpr(self.jaxpr, self.consts, *jax.tree.leaves(args))
        return jax.tree.unflatten(self.tree, flat)


class Implicit(Backward):
    """A backward whose gradient is `(df/dtheta)^T y` with `y = v + J^T y`, or an estimate of it."""

    @abc.abstractmethod
    def adjoint(self, problem: Problem, pull: Apply, v: PyTree, solution: Solution) -> PyTree:
        """The solution of `y = v + J^T y`.

        Args:
            problem: that was solved; starts at its `adjoint0`, if there is one.
            pull: multiplies with `J^T` at the solution.
            v: cotangent of `z`.
            solution: of the problem.
        """


@contextlib.contextmanager
def explained_forward_mode() -> Iterator[None]:
    """Forward-mode differentiation of `solve_implicitly` raises an error that says what to use."""
    try:
        yield
    except TypeError as error:
        if "custom_vjp" not in str(error):
            raise
        raise TypeError(
            "forward-mode differentiation (jvp, jacfwd, hessian) of an implicit solve: use "
            "backward=jdeq.IFT(forward_mode=True), or 'phantom', 'jfb' or 'unroll'"
        ) from error


@jax.custom_vjp
def solve_implicitly(backward: Implicit, problem: Problem) -> Solution:
    """Solves `problem`; in reverse mode `z` depends on what `f` closes over, not on `z0`.

    Nor does it on settings of the solver or of `backward`. The cotangent of `problem.adjoint0`,
    which has no influence on `z`, is `y` by definition. There is no forward mode.
    """
    return solve(problem)


def _forward(backward: Implicit, problem: Problem) -> tuple[Solution, Any]:
    solution = solve_implicitly(backward, problem)
    saved = backward, dataclasses.replace(problem, z0=solution.z), solution
    if problem.space.axes or problem.space.in_step:  # which JAX has forgotten in the reverse rule
        return solution, (saved, Recorded.of(_pull, *saved, solution.z))
    return solution, (saved, None)


def _pull(
    backward: Implicit, problem: Problem, solution: Solution, v: PyTree
) -> tuple[list[Any], PyTree]:
    """The cotangents of what `f` closes over, and `y`."""
    z = solution.z
    _, pull_z = jax.vjp(problem.f, z)
    _, pull_consts = jax.vjp(lambda consts: problem.function(consts, z), problem.consts)
    y = backward.adjoint(problem, lambda y: pull_z(y)[0], v, solution)
    return pull_consts(y)[0], y


def _backward(residuals: Any, cotangent: Solution) -> tuple[Implicit, Problem]:
    saved, recorded = residuals
    backward, problem, solution = saved
    pull: Any = recorded or _pull
    consts, y = pull(*saved, cotangent.z)
    return zero_tangent(backward), dataclasses.replace(
        problem,
        consts=consts,
        z0=jax.tree.map(jnp.zeros_like, solution.z),
        limit=zero_tangent(problem.limit),
        solver=zero_tangent(problem.solver),
        adjoint0=None if problem.adjoint0 is None else y,
    )


solve_implicitly.defvjp(_forward, _backward)
