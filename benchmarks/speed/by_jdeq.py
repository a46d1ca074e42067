"""The solves by jdeq."""

import jdeq

from .function import Function
from .jax_runs import JaxBare, make_run
from .runs import ANDERSON_M, BROYDEN_MEMORY, MAX_ITER, PHANTOM_STEPS, Run, Task

SOLVERS = {
    "fixed point": (jdeq.FixedPointIter, {}),
    "Anderson": (jdeq.Anderson, {"m": ANDERSON_M}),
    "Broyden": (jdeq.Broyden, {}),
    f"Broyden, memory {BROYDEN_MEMORY}": (jdeq.Broyden, {"memory": BROYDEN_MEMORY}),
    "GMRES": (jdeq.GMRES, {}),
}


def solver_of(name: str, tol: float, max_iter: int = MAX_ITER) -> jdeq.Solver:
    make, options = SOLVERS[name]
    return make(tol=tol, max_iter=max_iter, **options)


def backward_of(name: str | None, tol: float) -> jdeq.Backward:
    """By the name of a task's backward; `IFT: ` comes with a solver's."""
    if name in (None, "IFT: default"):
        return jdeq.IFT(tol=tol)
    if name.startswith("IFT: "):
        return jdeq.IFT(solver_of(name.removeprefix("IFT: "), tol))
    return {
        "phantom": jdeq.PhantomGrad(PHANTOM_STEPS, unroll=PHANTOM_STEPS),
        "JFB": jdeq.JFB(),
        "SHINE": jdeq.SHINE(),
    }[name]


class Jdeq:
    name = "jdeq"
    scale = None
    bare = JaxBare

    def supports(self, task: Task) -> bool:
        return True

    def prepare(self, function: Function, task: Task, tol: float) -> Run:
        solver, backward = solver_of(task.solver, tol), backward_of(task.backward, tol)

        def solve(f, z0, args, tol, backward_tol):
            z, info = jdeq.deq(lambda z: f(z, args), z0, solver=solver, backward=backward)
            return z, info.nfe

        return make_run(function, task, solve)
