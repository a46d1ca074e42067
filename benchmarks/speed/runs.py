"""What a library makes of a solve: something to call, and what came of it."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from .function import Function, State

MAX_ITER = 50  # room of every forward and backward solve
ANDERSON_M = 6
BROYDEN_MEMORY = 10
PHANTOM_STEPS = 5
RESTART = 10  # of peers' GMRES, which look at their residual there only


class Task(NamedTuple):
    """What is solved how; `backward` None is a forward solve alone."""

    solver: str
    backward: str | None = None

    def __str__(self) -> str:
        return self.solver if self.backward is None else f"{self.solver} + {self.backward}"


class Outcome(NamedTuple):
    """The solution, evaluations of `f` in the forward solve, and the gradient by `theta`."""

    z: State
    nfe: int
    gradient: dict[str, np.ndarray] | None = None


class Counts(NamedTuple):
    """Evaluations of `f`, and products with its transposed Jacobian, as they ran."""

    evaluations: int
    products: int


@dataclasses.dataclass(frozen=True)
class Run:
    """A compiled task.

    Args:
        call: `(tol, backward_tol)` solves and waits for the result, which is what is timed.
        read: makes an `Outcome` of it.
        count: runs the same with counters in `f`.
    """

    call: Callable[[float, float], Any]
    read: Callable[[Any], Outcome]
    count: Callable[[float, float], Counts]

    def outcome(self, tol: float, backward_tol: float) -> Outcome:
        return self.read(self.call(tol, backward_tol))


class Bare(Protocol):
    """`f` alone, in the same library."""

    def evaluations(self, n: int) -> object:
        """`z <- f(z)`, n times."""

    def products(self, n: int) -> object:
        """One evaluation, then `y <- J^T y` n times."""


class Library(Protocol):
    """A library and what it can do.

    `scale` tells what a stopping rule of its own compares with `tol`, relative to the residual
    of a sample: the norm of the solution as that rule takes it. None: it has our rule.
    """

    name: str
    scale: Callable[[State], float] | None

    def supports(self, task: Task) -> bool: ...

    def prepare(self, function: Function, task: Task, tol: float) -> Run:
        """Compiles; `tol` is for libraries that compile it in."""

    def bare(self, function: Function) -> Bare: ...
