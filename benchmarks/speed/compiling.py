"""How long tracing and compiling take, beyond that of `f`."""

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

NOTES = """Seconds to trace and compile `tanh(z w + x)`, and a solve of it, each with an own shape so
that nothing is cached. "beyond f" is the difference; the gradient is by the default backward solve."""
REPEATS = 3


def seconds_to_compile(make: Callable[[Any], Any], width: int) -> float:
    """`make(f)` is a function of `(z0, args)`."""
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
    total = lambda out: sum(leaf.sum() for leaf in jax.tree.leaves(out))
    gradient = lambda run: jax.grad(lambda z0, args: total(run(z0, args)), 1, allow_int=True)
    plain = lambda f: f
    seconds_to_compile(plain, next(widths))  # what the first compilation of a process costs
    for name in ("fixed point", "Anderson", "Broyden"):
        if not context.wanted(name):
            continue
        solver = solver_of(name, 1e-3)

        def solving(f, solver=solver):
            return lambda z0, args: jdeq.deq(lambda z: f(z, args), z0, solver=solver)[0]

        forward, forward_f = median(solving), median(plain)
        both, both_f = median(lambda f: gradient(solving(f))), median(lambda f: gradient(f))  # noqa: B023
        yield (
            name,
            {
                "forward s": forward,
                "beyond f s": forward - forward_f,
                "gradient s": both,
                "gradient beyond f s": both - both_f,
            },
        )
