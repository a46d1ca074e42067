"""`vmap` of single solves beside the batched solve."""

from collections.abc import Iterator

import jax
import numpy as np

import jdeq

from .by_jdeq import solver_of
from .context import Context
from .function import Function
from .functions import dense
from .grid import Row
from .jax_runs import place
from .runs import Outcome
from .timing import interleave
from .verify import check_residual

TOL = 1e-3
NOTES = f"""`tanh(z w + x)`, batch 64, to {TOL:.0e}: `jax.vmap` of a solve with `batch_dims=0`
against the native batch."""


def rows(context: Context) -> Iterator[tuple[str, Row]]:
    for width in (16,) if context.quick else (256, 1024):
        function = dense(f"dense D={width}", 64, width)
        for name in ("fixed point", "Anderson", "Broyden"):
            row = f"D={width}, {name}"
            if context.wanted(row):
                yield row, measure(function, solver_of(name, TOL), context)


def measure(function: Function, solver: jdeq.Solver, context: Context) -> Row:
    f, (theta, _) = place(function)
    args = (jax.device_put(function.z0), theta["x"], theta["w"])

    def solve(z, x, w, batch_dims):
        f_of = lambda z: f(z, ({"w": w, "x": x}, None))
        return jdeq.deq(f_of, z, solver=solver, batch_dims=batch_dims)[0]

    programs = {
        "native": jax.jit(lambda z, x, w: solve(z, x, w, 1)),
        "vmap": jax.jit(jax.vmap(lambda z, x, w: solve(z, x, w, 0), in_axes=(0, 0, None))),
    }
    for program in programs.values():
        z = jax.tree.map(np.asarray, program(*args))
        check_residual(function, Outcome(z, 0), TOL)
    run = lambda program: lambda: jax.block_until_ready(program(*args))
    times = interleave({name: run(p) for name, p in programs.items()}, context.effort)
    return {
        "native ms": 1e3 * times["native"],
        "vmap ms": 1e3 * times["vmap"],
        "vmap / native": times["vmap"] / times["native"],
    }
