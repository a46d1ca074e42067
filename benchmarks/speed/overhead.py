"""What the solvers cost beyond `f`: a solve against a compiled loop of as many evaluations."""

import dataclasses
from collections.abc import Iterator

import jdeq

from .by_jdeq import solver_of
from .context import Context
from .functions import dense
from .grid import Row
from .jax_runs import JaxBare, make_run
from .runs import Task
from .timing import interleave
from .verify import check_residual

TOL = 1e-5
NOTES = """`tanh(z w + x)`, batch 64. "to 1e-05" stops by the tolerance, with room for `max_iter`
iterations; "all" makes every one of them. The time of `f` is that of a compiled `fori_loop`."""


def every_iteration(solver: jdeq.Solver) -> jdeq.Solver:
    """Neither convergence nor stalling stops this one."""
    return dataclasses.replace(solver, tol=1e-30, return_final=True)


def rows(context: Context) -> Iterator[tuple[str, Row]]:
    widths, limits = ((16,), (5,)) if context.quick else ((1024, 2048), (50, 100))
    for width in widths:
        function = dense(f"dense D={width}", 64, width)
        bare = JaxBare(function)
        for limit in limits:
            for name in ("fixed point", "Anderson", "Broyden"):
                for mode in (f"to {TOL:.0e}", "all"):
                    row = f"D={width}, max_iter={limit}, {name}, {mode}"
                    if not context.wanted(row):
                        continue
                    solver = solver_of(name, TOL, limit)
                    solver = every_iteration(solver) if mode == "all" else solver

                    def solve(f, z0, args, *_, solver=solver):
                        z, info = jdeq.deq(lambda z: f(z, args), z0, solver=solver)
                        return z, info.nfe

                    run = make_run(function, Task(name), solve)
                    outcome = run.outcome(TOL, TOL)
                    goal = 1e-2 if context.quick else TOL
                    residual = check_residual(function, outcome, goal)
                    calls = {
                        "solve": lambda run=run: run.call(TOL, TOL),
                        "f": lambda n=outcome.nfe: bare.evaluations(n),
                    }
                    times = interleave(calls, context.effort)
                    yield (
                        row,
                        {
                            "NFE": outcome.nfe,
                            "residual": residual,
                            "solve ms": 1e3 * times["solve"],
                            "f ms": 1e3 * times["f"],
                            "overhead": times["solve"] / times["f"],
                        },
                    )
