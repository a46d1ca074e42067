"""A stream of requests whose solves take unequally long: slots that are refilled, and batches."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jdeq

from .context import Context
from .grid import Row
from .timing import interleave
from .verify import WrongSolution

TOL = 1e-4
SPREAD = (5, 40)  # iterations
NOTES = f"""`rate * (z q) + b` with an orthogonal q and a rate for each request, so that plain
iteration to {TOL:.0e} takes {SPREAD[0]} to {SPREAD[1]} iterations, evenly spread, in random order.
"batches": the same requests in batches of as many as there are slots, one after the other. "passes"
are evaluations of `f` on a batch. Every answer has the same number of steps both ways, and the same
state to 1e-5."""
OF_JDEQ = {"solver": "fixed_point_iter", "max_iter": 60, "tol": TOL}


def rows(context: Context) -> Iterator[tuple[str, Row]]:
    cases = ((16, 32, 8),) if context.quick else ((1024, 4096, 64), (1024, 4096, 256))
    for width, n, slots in cases:
        row = f"D={width}, {n} requests, {slots} slots"
        if context.wanted(row):
            yield row, measure(width, n, slots, context)


def requests(width: int, n: int) -> tuple[dict[str, jax.Array], jax.Array]:
    """The requests {rate (N, 1), b (N, D)}, and q (D, D)."""
    rng = np.random.default_rng(0)
    q = np.linalg.qr(rng.normal(size=(width, width)))[0]
    rate = TOL ** (1 / rng.uniform(*SPREAD, size=(n, 1)))
    x = {"rate": rate, "b": rng.normal(size=(n, width))}
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), (x, q))


def measure(width: int, n: int, slots: int, context: Context) -> Row:
    x, q = requests(width, n)
    z0 = jnp.zeros((n, width), jnp.float32)

    def f(z: jax.Array, x: Any, q: jax.Array) -> jax.Array:
        return x["rate"] * (z @ q) + x["b"]

    @jax.jit
    def stream(x, z0, q):
        of = lambda z, x: f(z, x, q)
        z, info = jdeq.solve_stream(of, x, z0=z0, slots=slots, **OF_JDEQ)
        return z, info.steps, info.nfe

    @jax.jit
    def batches(x, z0, q):
        def one(part):
            x, z0 = part
            z, info = jdeq.deq(lambda z: f(z, x, q), z0, **OF_JDEQ)
            return z, info.steps, info.nfe

        parts = jax.tree.map(lambda a: a.reshape(-1, slots, *a.shape[1:]), (x, z0))
        z, steps, nfe = jax.lax.map(one, parts)
        return z.reshape(n, width), steps.reshape(n), nfe.sum()

    programs = {"stream": stream, "batches": batches}
    outcomes = {name: jax.device_get(run(x, z0, q)) for name, run in programs.items()}
    (z, steps, passes), (other, other_steps, other_passes) = outcomes.values()
    if not (np.array_equal(steps, other_steps) and np.allclose(z, other, rtol=1e-5, atol=1e-5)):
        raise WrongSolution("a stream's answers differ from those of batches")
    call = lambda run: lambda: jax.block_until_ready(run(x, z0, q))
    times = interleave({name: call(run) for name, run in programs.items()}, context.effort)
    return {
        "steps": f"{steps.min()} to {steps.max()}",
        "stream passes": int(passes),
        "batches passes": int(other_passes),
        "stream ms": 1e3 * times["stream"],
        "batches ms": 1e3 * times["batches"],
        "batches / stream": times["batches"] / times["stream"],
    }
