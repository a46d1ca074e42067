"""What the solvers cost beyond `f`: a solve against a compiled loop of as many evaluations."""

import dataclasses
import itertools
from collections.abc import Iterator

import jdeq

from .by_jdeq import solver_of
from .context import Context
from .function import Function
from .functions import dense
from .grid import Row
from .jax_runs import JaxBare, make_run
from .runs import Bare, Task
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
        for limit, name in itertools.product(limits, ("fixed point", "Anderson", "Broyden")):
            solver = solver_of(name, TOL, limit)
            modes = {f"to {TOL:.0e}": solver, "all": every_iteration(solver)}
            for mode, chosen in modes.items():
                row = f"D={width}, max_iter={limit}, {name}, {mode}"
                if context.wanted(row):
                    yield row, measure(function, bare, chosen, context)


def measure(function: Function, bare: Bare, solver: jdeq.Solver, context: Context) -> Row:
    def solve(f, z0, args, *_):
        z, info = jdeq.deq(lambda z: f(z, args), z0, solver=solver)
        return z, info.nfe

    run = make_run(function, Task("any"), solve)
    outcome = run.outcome(TOL, TOL)
    # a quick run is given too few iterations to get anywhere
    reached = check_residual(function, outcome, 1.0 if context.quick else TOL)
    calls = {"solve": lambda: run.call(TOL, TOL), "f": lambda: bare.evaluations(outcome.nfe)}
    calls["f"]()
    times = interleave(calls, context.effort)
    return {
        "NFE": outcome.nfe,
        "residual": reached,
        "solve ms": 1e3 * times["solve"],
        "f ms": 1e3 * times["f"],
        "overhead": times["solve"] / times["f"],
    }
