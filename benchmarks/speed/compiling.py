"""How long tracing and compiling take, beyond that of `f`."""

import functools
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import jax

import jdeq

from .by_jdeq import solver_of
from .context import Context
from .functions import dense
from .grid import Row
from .jax_runs import place
from .timing import seconds_of

NOTES = """Seconds to trace and compile a solve of `tanh(z w + x)`, each with a shape of its own so
that nothing is cached. "beyond f" is without what `f` alone, or its gradient, takes; gradients are
by the default backward solve."""
REPEATS = 3
Program = Callable[[Any, Any], Any]  # of (z0, args), as `f` is


def seconds_to_compile(make: Callable[[Program], Program], width: int) -> float:
    """What `jit(make(f))` takes to lower and compile."""
    function = dense("compile", 4, width)
    f, args = place(function)
    program = jax.jit(make(f))
    return seconds_of(lambda: program.lower(function.z0, args).compile())


def rows(context: Context) -> Iterator[tuple[str, Row]]:
    widths = iter(range(65, 10_000))
    repeats = 1 if context.quick else REPEATS
    median = lambda make: statistics.median(
        seconds_to_compile(make, next(widths)) for _ in range(repeats)
    )
    seconds_to_compile(plain, next(widths))  # what the first compilation of a process costs
    for name in ("fixed point", "Anderson", "Broyden"):
        if context.wanted(name):
            solve = functools.partial(solving, solver_of(name, 1e-3))
            forward, both = median(solve), median(lambda f, solve=solve: gradient(solve(f)))
            yield (
                name,
                {
                    "forward s": forward,
                    "beyond f s": forward - median(plain),
                    "gradient s": both,
                    "gradient beyond f s": both - median(gradient),
                },
            )


def plain(f: Program) -> Program:
    return f


def solving(solver: jdeq.Solver, f: Program) -> Program:
    return lambda z0, args: jdeq.deq(lambda z: f(z, args), z0, solver=solver)[0]


def gradient(run: Program) -> Program:
    """Of the sum of what `run` returns, by its `args`."""
    total = lambda args, z0: sum(leaf.sum() for leaf in jax.tree.leaves(run(z0, args)))
    return lambda z0, args: jax.grad(total)(args, z0)
