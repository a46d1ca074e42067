"""`vmap` of single solves beside the batched solve."""

from collections.abc import Iterator

import jax

import jdeq

from .by_jdeq import solver_of
from .context import Context
from .functions import dense
from .grid import Row
from .jax_runs import place
from .runs import Outcome
from .timing import interleave
from .verify import check_residual

TOL = 1e-3
NOTES = f"""`tanh(z w + x)`, batch 64, to {TOL:.0e}: `jax.vmap` of a solve with `batch_dims=0` against
the native batch."""


def rows(context: Context) -> Iterator[tuple[str, Row]]:
    for width in (16,) if context.quick else (256, 1024):
        function = dense(f"dense D={width}", 64, width)
        f, (theta, _) = place(function)
        z0 = jax.device_put(function.z0)
        for name in ("fixed point", "Anderson", "Broyden"):
            row = f"D={width}, {name}"
            if not context.wanted(row):
                continue
            solver = solver_of(name, TOL)

            def solve(z, x, w, batch_dims, solver=solver):
                f_of = lambda z: f(z, ({"w": w, "x": x}, None))
                return jdeq.deq(f_of, z, solver=solver, batch_dims=batch_dims)[0]

            native = jax.jit(lambda z, x, w, solve=solve: solve(z, x, w, 1))
            mapped = jax.jit(
                jax.vmap(lambda z, x, w, solve=solve: solve(z, x, w, 0), in_axes=(0, 0, None))
            )
            args = (z0, theta["x"], theta["w"])
            for call in (native, mapped):
                z = tuple(map(jax.device_get, call(*args)))
                check_residual(function, Outcome(z, 0), TOL)
            times = interleave(
                {
                    "native": lambda call=native: jax.block_until_ready(call(*args)),
                    "vmap": lambda call=mapped: jax.block_until_ready(call(*args)),
                },
                context.effort,
            )
            yield (
                row,
                {
                    "native ms": 1e3 * times["native"],
                    "vmap ms": 1e3 * times["vmap"],
                    "vmap / native": times["vmap"] / times["native"],
                },
            )
