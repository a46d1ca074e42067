"""Phantom gradient."""

import dataclasses
import itertools

from jax import Array, lax

from .._checks import check_int, check_tau
from .._hoist import Function
from .._loop import Solution, unmeasured
from .._method import Method
from .._problem import Problem
from .._programs import reuse
from .._space import PyTree
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
    backpropagation through `steps` applications from `z0`, `steps + 1` evaluations in all, and
    `z0` gets its gradient too.

    With `sup_gap` or `sup_loc` the states after some of the steps are returned as well, for
    losses on them: in `info.states`, oldest first, followed by `z*`, the last one, each
    differentiated through the steps before it.

    A sample for which a step makes NaN or infinity stays at its last good state.

    Args:
        steps: applications of `f`, at least 1.
        tau: damping, in (0, 2].
        sup_gap: return the states after every `sup_gap` steps. `z*` always ends the list, where
            TorchDEQ leaves out a remainder.
        sup_loc: return the states after these steps, ascending, instead. The last step may be
            named or not: `z*` is there once, where TorchDEQ repeats it.
        state_steps: applications for each state that the solver sampled before the last
            (`n_states`, `indexing`), oldest first. None: `steps` for each.
        unroll: how many steps at most the compiled loop makes at once. All of them is faster on a
            CPU, by a quarter to a half where `f` is convolutions or matrix products; `f` and its
            derivative are compiled as often.

    Source: Geng et al., *On Training Implicit Models* (2021); TorchDEQ paper, eqs. 5-6.

    Example:
        >>> import jax, jax.numpy as jnp, jdeq
        >>> def loss(a):
        ...     z, info = jdeq.deq(
        ...         lambda z: a * z + 1, jnp.zeros((1, 1)), backward=jdeq.PhantomGrad(4, sup_gap=2))
        ...     return sum(z.sum() for z in info.states)  # after 2 and 4 steps
        >>> print(f"{jax.grad(loss)(0.5):.2f}")
        6.75
    """

    steps: int = 5
    tau: float | Array = 1.0
    sup_gap: int | None = None
    sup_loc: tuple[int, ...] | None = None
    state_steps: tuple[int, ...] | None = None
    unroll: int = 1

    def __post_init__(self) -> None:
        check_int("steps", self.steps, low=1)
        check_int("unroll", self.unroll, low=1)
        check_tau(self.tau)
        if self.sup_gap is not None and self.sup_loc is not None:
            raise ValueError("pass sup_gap or sup_loc, not both")
        if self.sup_gap is not None:
            check_int("sup_gap", self.sup_gap, low=1)
            if self.sup_gap > self.steps:
                raise ValueError(f"sup_gap={self.sup_gap} is beyond steps={self.steps}")
        if self.sup_loc is not None:
            object.__setattr__(self, "sup_loc", tuple(self.sup_loc))
            for i in self.sup_loc:
                check_int("sup_loc", i, low=1)
            if any(a >= b for a, b in itertools.pairwise((*self.sup_loc, self.steps + 1))):
                raise ValueError(
                    f"sup_loc must ascend up to steps={self.steps}, got {self.sup_loc}"
                )
        if self.state_steps is not None:
            object.__setattr__(self, "state_steps", tuple(self.state_steps))
            for i in self.state_steps:
                check_int("state_steps", i, low=1)

    @property
    def supervised(self) -> tuple[int, ...]:
        """The steps before the last whose states are returned."""
        if self.sup_loc is not None:
            return tuple(i for i in self.sup_loc if i < self.steps)
        return tuple(range(self.sup_gap, self.steps, self.sup_gap)) if self.sup_gap else ()

    def __call__(self, problem: Problem) -> Solution:
        unrolled = problem.solver.max_iter == 0
        solution = _unsolved(problem) if unrolled else problem.solve_detached()
        solution = self.sampled(problem, solution)
        states, z, before = solution.states, solution.z, 0
        for after in self.supervised:
            z = self.steps_from(problem, z, steps=after - before)
            states, before = (*states, z), after
        z = self.steps_from(problem, z, steps=self.steps - before)
        solution = problem.remeasure(solution.after(self.steps), z)._replace(states=states)
        return solution._replace(solver_status=None) if unrolled else solution

    def sampled(self, problem: Problem, solution: Solution) -> Solution:
        """The solution with each of its sampled states after its steps.

        Raises:
            ValueError: `state_steps` are not one per state.
        """
        states = solution.states
        steps = (self.steps,) * len(states) if self.state_steps is None else self.state_steps
        if len(steps) != len(states):
            raise ValueError(
                f"state_steps={steps} must be one number per state before the last: {len(states)}"
            )
        pairs = zip(states, steps, strict=True)
        states = tuple(self.steps_from(problem, z, steps=n) for z, n in pairs)
        return solution._replace(states=states).after(sum(steps))

    def steps_from(self, problem: Problem, z: PyTree, *, steps: int | None = None) -> PyTree:
        """`steps` damped steps of `problem.f` from `z`; all of them by default."""
        length = self.steps if steps is None else steps
        settings = _Steps(length, self.tau, min(self.unroll, length))
        return reuse(_take_steps, problem, settings, z, needs="all derivatives")


def _unsolved(problem: Problem) -> Solution:
    """The start, which keeps its gradient, unmeasured: the steps evaluate `f` there anyway."""
    solution = unmeasured(problem.space, problem.z0, length=0, n_states=0)
    return solution._replace(evals=solution.evals[..., None])


@dataclasses.dataclass(frozen=True)
class _Steps(Method):
    """How many steps, how far, and how many at once."""

    length: int
    tau: float | Array
    unroll: int


def _take_steps(function: Function, problem: Problem, steps: _Steps, z: PyTree) -> PyTree:
    space = problem.space

    def step(z: PyTree, _: None) -> tuple[PyTree, None]:
        new = space.damp(z, function(problem.consts, z), steps.tau)
        return space.where(space.is_finite(new), new, z), None

    return lax.scan(step, z, None, length=steps.length, unroll=steps.unroll)[0]
