"""How the time of an iteration grows with the batch, and with state size times window."""

import math
from collections.abc import Iterator

import numpy as np

import jdeq

from .context import Context
from .function import Function
from .functions import arrays
from .grid import Row
from .jax_runs import make_run
from .overhead import every_iteration
from .runs import Task
from .timing import interleave

LIMIT = 30  # iterations, all of them made
NOTES = f"""Milliseconds per iteration, mean of {LIMIT}, on `tanh(w * z + x)`, which costs next to
nothing beside a solver. The slopes are fitted on a log-log scale: 1 is linear growth, the fixed
cost of an iteration makes it less."""
WINDOWS = {"Anderson": 6, "Broyden": LIMIT}


def elementwise(batch: int, width: int) -> Function:
    theta = arrays(0, w=(width,), x=(batch, width))
    theta["w"] = np.tanh(theta["w"]).astype(np.float32)
    formula = lambda ops, theta, _, z: (ops.tanh(theta["w"] * z[0] + theta["x"]),)
    return Function("elementwise", theta, (np.zeros_like(theta["x"]),), formula)


def rows(context: Context) -> Iterator[tuple[str, Row]]:
    batches = (2, 4) if context.quick else (8, 32, 128, 512, 2048, 8192)
    widths = (8, 16) if context.quick else (256, 1024, 4096, 16384, 65536, 262144)
    for name, window in WINDOWS.items():
        settings = {
            f"{name} against B, D=256": [(batch, 256, batch) for batch in batches],
            f"{name} against D m, B=4, m={window}": [(4, d, d * window) for d in widths],
        }
        for row, points in settings.items():
            if not context.wanted(row):
                continue
            sizes = [size for _, _, size in points]
            times = [per_iteration(name, batch, width, context) for batch, width, _ in points]
            slope = np.polyfit(np.log(sizes), np.log(times), 1)[0]
            yield (
                row,
                {
                    "slope": float(slope),
                    "from": sizes[0],
                    "to": sizes[-1],
                    "decades": math.log10(sizes[-1] / sizes[0]),
                    "sizes": sizes,
                    "ms": times,
                },
            )


def per_iteration(name: str, batch: int, width: int, context: Context) -> float:
    kind = {"Anderson": jdeq.Anderson(m=6, max_iter=LIMIT), "Broyden": jdeq.Broyden(max_iter=LIMIT)}
    solver = every_iteration(kind[name])

    def solve(f, z0, args, *_):
        z, info = jdeq.deq(lambda z: f(z, args), z0, solver=solver)
        return z, info.nfe

    run = make_run(elementwise(batch, width), Task(name), solve)
    assert run.outcome(0.0, 0.0).nfe == LIMIT + 1
    times = interleave({"solve": lambda: run.call(0.0, 0.0)}, context.effort)
    return 1e3 * times["solve"] / LIMIT
