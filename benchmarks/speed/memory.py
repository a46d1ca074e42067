"""Memory: XLA's own account of Broyden's history, and the peak of a process by library."""

import subprocess
import sys
from collections.abc import Iterator

import jax

import jdeq

from .by_jdeq import solver_of
from .context import Context
from .functions import dense
from .grid import Row
from .jax_runs import place
from .peak import TASKS

MIB = 2**20
NOTES = """XLA: the temporary memory of a compiled Broyden solve (`memory_analysis`) beside that of
one vector per iteration, and of the two that the U V^T form needs. Peak: the most resident memory
of a fresh process, after `f` and its products alone, and after a solve (dense, batch 512, D=2048).
What XLA takes to compile a solve is in it."""


def rows(context: Context) -> Iterator[tuple[str, Row]]:
    shapes = ((8, 32),) if context.quick else ((64, 1024), (64, 4096), (4096, 256))
    for batch, width in shapes:
        for limit in (20, 50):
            name = f"XLA, B={batch} D={width}, max_iter={limit}"
            if context.wanted(name):
                yield name, by_analysis(batch, width, limit)
    for library in context.libraries:
        for task in TASKS:
            name = f"peak, {library.name}, {task}"
            if context.wanted(name) and library.supports(task):
                size = ("8", "32") if context.quick else ("512", "2048")
                command = [sys.executable, "-m", "benchmarks.speed.peak", library.name, str(task)]
                done = subprocess.run([*command, *size], capture_output=True, text=True, check=True)
                base, peak = map(float, done.stdout.split()[-2:])
                yield name, {"f MiB": base, "solve MiB": peak, "added MiB": peak - base}


def by_analysis(batch: int, width: int, limit: int) -> Row:
    function = dense("memory", batch, width)
    f, args = place(function)
    solver = solver_of("Broyden", 1e-3, limit)
    solve = jax.jit(lambda z0, args: jdeq.deq(lambda z: f(z, args), z0, solver=solver)[0])
    analysis = solve.lower(function.z0, args).compile().memory_analysis()
    assert analysis is not None
    one = 4 * batch * width * (limit + 1) / MIB
    temporary = analysis.temp_size_in_bytes / MIB
    return {
        "temporary MiB": temporary,
        "one history MiB": one,
        "two histories MiB": 2 * one,
        "of two": temporary / (2 * one),
    }
