"""Microseconds of a solver's iteration beyond a bare chain of `f`."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

import jdeq
from benchmarks.speed.by_jdeq import solver_of
from benchmarks.speed.function import Function
from benchmarks.speed.jax_runs import place
from benchmarks.speed.overhead import every_iteration
from benchmarks.speed.timing import interleave

from .cases import Case, cases, work
from .ceilings import Ceilings
from .context import Context, Job, Jobs, Row

NOTES = """A solve makes all its iterations (bfloat16 may meet a state that is its own image, and
stop); times are per evaluation of `f`. `f us` is a chain in a loop of known length, `f, asked us`
one in a loop whose end is an argument: XLA may ask the device before each pass. `beyond` is the
solve less `f us`. Weights and states of the small functions stay in the card's cache, as they do
in use. Shares are of the rates in the first table, for the chain of known length: operations as
XLA counts them, bytes as if each array were passed once. Default matrix precision."""

ITERATIONS = 32
SOLVERS = {  # and how often each asks whether to stop
    "fixed point": (1, 4, 8),
    "Anderson": (1, 8),
    "Broyden": (1, 4, 8),
}
Program = Callable[..., Any]


def jobs(context: Context) -> Jobs:
    ceilings = Ceilings(context.found.get("card", ()))
    for case in cases(quick=context.quick):
        yield job(case, context, ceilings)


def job(case: Case, context: Context, ceilings: Ceilings) -> Job:
    return str(case), lambda: rows(case, context, ceilings)


def chains(f: Callable[[Any, Any], Any], n: int) -> dict[str, Program]:
    """`z <- f(z)`, n times; the third argument is n, for the one that does not know it."""

    def known(z0, args, _):
        return lax.fori_loop(0, n, lambda _, z: f(z, args), z0)

    def asked(z0, args, limit):
        step = lambda c: (c[0] + 1, f(c[1], args))
        return lax.while_loop(lambda c: c[0] < limit, step, (jnp.int32(0), z0))[1]

    return {"f": known, "f, asked": asked}


def solve(f: Callable[[Any, Any], Any], solver: jdeq.Solver) -> Program:
    def run(z0, args, _):
        z, info = jdeq.deq(lambda z: f(z, args), z0, solver=solver)
        return z, info.nfe

    return run


def programs(f: Callable[[Any, Any], Any], iterations: int, *, quick: bool) -> dict[Any, Program]:
    found: dict[Any, Program] = dict(chains(f, iterations))
    for name, every in list(SOLVERS.items())[: 1 if quick else None]:
        solver = every_iteration(solver_of(name, 1e-5, iterations - 1))
        for n in every[-1:] if quick else every:
            found[name, n] = solve(f, dataclasses.replace(solver, check_every=n))
    return found


def compiled(made: Mapping[Any, Program], args: tuple[Any, ...]) -> dict[Any, Program]:
    """All at once: XLA compiles outside of the interpreter's lock."""
    compile_one = lambda program: jax.jit(program).lower(*args).compile()
    with ThreadPoolExecutor() as pool:
        return dict(zip(made, pool.map(compile_one, made.values()), strict=True))


def rows(case: Case, context: Context, ceilings: Ceilings) -> list[Row]:
    function = case.function()
    f, args = place(function)
    iterations = 8 if context.quick else ITERATIONS
    inputs = (jax.device_put(function.z0), args, jnp.int32(iterations))
    runs = compiled(programs(f, iterations, quick=context.quick), inputs)
    call = lambda run: jax.block_until_ready(run(*inputs))
    outs = {key: call(run) for key, run in runs.items()}
    calls = {str(key): functools.partial(call, run) for key, run in runs.items()}
    seconds = interleave(calls, context.effort)
    per = {name: seconds[name] / iterations for name in ("f", "f, asked")}
    about = shares(case, function, per["f"], ceilings)
    found = []
    for key in runs:
        if isinstance(key, str):
            continue
        nfe = int(outs[key][1])
        each = seconds[str(key)] / nfe
        found.append(
            {
                "function": str(case),
                "solver": key[0],
                "check_every": key[1],
                "NFE": nfe,
                "f us": 1e6 * per["f"],
                "f, asked us": 1e6 * per["f, asked"],
                "solve us": 1e6 * each,
                "beyond us": 1e6 * (each - per["f"]),
                "ratio": each / per["f"],
                **about,
            }
        )
    return found


def shares(case: Case, function: Function, seconds: float, ceilings: Ceilings) -> Row:
    flops, moved = work(function)
    return {
        "arithmetic %": ceilings.share_of_arithmetic(flops, seconds, case.dtype),
        "bandwidth %": ceilings.share_of_bandwidth(moved, seconds),
    }
