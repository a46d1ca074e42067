"""Phantom gradient."""

import dataclasses

from jax import lax

from .._loop import Solution
from .._problem import Problem
from .._space import PyTree
from ..solvers.base import check_int, check_tau
from .base import Backward


@dataclasses.dataclass(frozen=True)
class PhantomGrad(Backward):
    """Phantom gradient: `steps` damped steps of `f` after the solve, plainly differentiated.

    `z <- tau f(z) + (1 - tau) z`, started at the solver's state, which counts as a constant. The
    value after the steps is what `deq` returns; `info` measures it with one more evaluation, which
    XLA drops where nobody reads it. On an affine map the gradient is the implicit one times
    `I - D^steps`, with `D = tau J + (1 - tau) I`.

    Costs `steps` evaluations and as many vector-Jacobian products; memory for `steps` times the
    activations of `f`, whatever the solver's iterations. With `max_iter=0` this is
    backpropagation through `steps` applications from `z0`, and `z0` gets its gradient too.

    A sample for which a step makes NaN or infinity stays at its last good state.

    Args:
        steps: applications of `f`, at least 1.
        tau: damping, in (0, 2].

    Source: Geng et al., *On Training Implicit Models* (2021); TorchDEQ paper, eqs. 5-6.
    """

    steps: int = 5
    tau: float = 1.0

    def __post_init__(self) -> None:
        check_int("steps", self.steps, low=1)
        check_tau(self.tau)

    def __call__(self, problem: Problem) -> Solution:
        solution = problem.solve_detached()
        if problem.solver.max_iter == 0:
            solution = solution._replace(z=problem.z0)  # which keeps its gradient
        states = tuple(self.steps_from(problem, z) for z in solution.states)
        z = self.steps_from(problem, solution.z)
        return problem.remeasure(solution, z)._replace(states=states)

    def steps_from(self, problem: Problem, z: PyTree) -> PyTree:
        """The damped steps of `problem.f` from `z`."""
        space = problem.space

        def step(z: PyTree, _: None) -> tuple[PyTree, None]:
            fz = problem.f(z)
            new = fz if self.tau == 1 else space.add(z, space.sub(fz, z), self.tau)
            return space.where(space.is_finite(new), new, z), None

        return lax.scan(step, z, None, length=self.steps)[0]
