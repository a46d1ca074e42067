"""`python -m benchmarks.programs`: what a solve makes a device do, counted in its program.

For each solver and each gradient: the loops whose length XLA does not know and the branches in
them, on a CPU and on an accelerator, whose host has to answer both; evaluations of `f` per answer;
calls of the host; copies of the state (in the program that XLA makes for a CPU); and collectives in
loops where the batch is spread over eight simulated devices. Nothing is run.
"""

import argparse
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend import core as jex

import jdeq
from jdeq._jaxprs import inner_jaxprs

from .collectives import collectives
from .hlo import lines, nbytes, shapes

B, D = 64, 128
HOST = ("pure_callback", "io_callback", "debug_callback", "debug_print")
EIGHTH = jdeq.FixedPointIter(max_iter=47, check_every=8)
FORWARD: dict[str, str | jdeq.Solver] = {
    "fixed_point_iter": jdeq.FixedPointIter(),
    "fixed_point_iter, check_every=8": EIGHTH,
    "simple_fixed_point_iter": jdeq.SimpleFixedPointIter(),
    "anderson": jdeq.Anderson(),
    "anderson, check_every=8": jdeq.Anderson(max_iter=47, check_every=8),
    "broyden": jdeq.Broyden(),
    "broyden, check_every=8": jdeq.Broyden(max_iter=47, check_every=8),
    "newton": jdeq.Newton(),
    "auto": "auto",
    "gmres (affine f)": jdeq.GMRES(),
    "bicgstab (affine f)": jdeq.BiCGStab(),
}
GRADIENTS: dict[str, tuple[str | jdeq.Solver, str | jdeq.Backward]] = {  # with a forward solver
    "IFT: auto, the default": ("fixed_point_iter", jdeq.IFT()),
    "IFT: fixed_point_iter": ("fixed_point_iter", jdeq.IFT("fixed_point_iter")),
    "IFT: fixed_point_iter, check_every=8": (EIGHTH, jdeq.IFT(EIGHTH)),
    "IFT: gmres": ("fixed_point_iter", jdeq.IFT("gmres")),
    "IFT: bicgstab": ("fixed_point_iter", jdeq.IFT("bicgstab")),
    "IFT: anderson": ("fixed_point_iter", jdeq.IFT("anderson")),
    "IFT: broyden": ("fixed_point_iter", jdeq.IFT("broyden")),
    "neumann": ("fixed_point_iter", jdeq.IFT("neumann")),
    "phantom": ("fixed_point_iter", "phantom"),
    "jfb": ("fixed_point_iter", "jfb"),
    "shine": ("broyden", "shine"),
    "unroll": ("fixed_point_iter", "unroll"),
}


class Counts(NamedTuple):
    """What is in a program.

    `products` are the matrix products with weights, of which each evaluation of `f` makes one, per
    pass of the innermost loop of unknown length that holds any: the least over these loops.
    """

    loops: int = 0
    nested: int = 0
    branches: int = 0
    host: int = 0
    products: float = math.inf

    def __add__(self, other: tuple) -> "Counts":  # pyright: ignore[reportIncompatibleMethodOverride]
        a, b = self, Counts(*other)
        return Counts(
            a.loops + b.loops,
            max(a.nested, b.nested),
            a.branches + b.branches,
            a.host + b.host,
            min(a.products, b.products),
        )


def count(fn: Callable[..., Any], *args: Any, platform: str) -> Counts:
    """Counts in the trace of `fn`, as it is lowered for a platform."""
    return _count(jax.make_jaxpr(fn)(*args).jaxpr, platform, looped=False)


def _count(jaxpr: jex.Jaxpr, platform: str, looped: bool) -> Counts:
    total = Counts()
    for name, inner, _ in _steps(jaxpr, platform):
        if name == "while":
            inside = sum((_count(i, platform, True) for i in inner), Counts())
            own = sum(_products(i, platform) for i in inner)
            total += inside._replace(
                loops=inside.loops + 1,
                nested=inside.nested + 1,
                products=min(inside.products, own or math.inf),
            )
        else:
            total += sum((_count(i, platform, looped) for i in inner), Counts())
            total += Counts(branches=int(looped and name == "cond"), host=int(name in HOST))
    return total


def _products(jaxpr: jex.Jaxpr, platform: str) -> int:
    """Products with weights outside of further loops of unknown length."""
    total = 0
    for name, inner, length in _steps(jaxpr, platform):
        if name == "product":
            total += 1
        elif name != "while":
            total += length * sum(_products(i, platform) for i in inner)
    return total


def _steps(jaxpr: jex.Jaxpr, platform: str) -> Iterator[tuple[str, list[jex.Jaxpr], int]]:
    """Name, functions and length of each equation; a choice by platform is the one chosen."""
    chosen: dict[Any, int] = {}
    for e in jaxpr.eqns:
        name, length = e.primitive.name, e.params.get("length", 1)
        inner = list(inner_jaxprs(e.params.values()))
        if name == "platform_index":
            chosen[e.outvars[0]] = _index(e.params["platforms"], platform)
        elif name == "cond" and e.invars[0] in chosen:
            name, inner = "call", [inner[chosen[e.invars[0]]]]
        elif name == "cond" and len(inner) == 1:
            name = "call"
        elif name == "dot_general":
            (_, batch) = e.params["dimension_numbers"]
            name = "product" if batch == ((), ()) else name
        yield name, inner, length if name == "scan" else 1


def _index(platforms: Sequence[Any], platform: str) -> int:
    named = [i for i, names in enumerate(platforms) if names and platform in names]
    return named[0] if named else list(platforms).index(None)


def unknown_loops(text: str) -> int:
    """Loops of a compiled program whose length XLA did not find out."""
    return sum(" while(" in line and "known_trip_count" not in line for line in text.splitlines())


def copies(text: str) -> int:
    """Copies in the loops of a compiled program of arrays as large as the state, or larger."""
    found = (re.search(r" = (\S+) copy\(", line) for line, in_loop in lines(text) if in_loop)
    sizes = (nbytes(shape) for match in found if match for shape in shapes(match[1]))
    return sum(size >= 4 * B * D for size in sizes)


def spread(fn: Callable[..., Any], w: Array, x: Array) -> list[str]:
    """Collectives in loops with the batch over all devices: kind and shape."""
    mesh = jax.make_mesh((jax.device_count(),), ("data",), (jax.sharding.AxisType.Auto,))
    rows = jax.NamedSharding(mesh, jax.P("data"))
    text = jax.jit(fn, in_shardings=(None, rows)).lower(w, x).compile().as_text() or ""
    return [f"{c.kind} {' '.join(c.shapes)}" for c in collectives(text) if c.in_loop]


def forward(name: str) -> Callable[..., Any]:
    """A solve by one of `FORWARD`."""
    shape = (lambda x: x) if "affine" in name else jnp.tanh
    return lambda w, x: jdeq.deq(
        lambda z: shape(z @ w + x), jnp.zeros_like(x), solver=FORWARD[name]
    )


def gradient(name: str) -> Callable[..., Any]:
    """A gradient by one of `GRADIENTS`."""
    solver, backward = GRADIENTS[name]

    def loss(w: Array, x: Array) -> Array:
        f = lambda z: jnp.tanh(z @ w + x)
        z, _ = jdeq.deq(f, jnp.zeros_like(x), solver=solver, backward=backward)
        return z.sum()

    return jax.grad(loss)


def arguments() -> tuple[Array, Array]:
    return jnp.eye(D) / 2, jnp.ones((B, D))


def table(title: str, programs: dict[str, Callable[..., Any]]) -> Iterator[str]:
    """Markdown."""
    columns = (
        "loops of unknown length",
        "in each other",
        "branches in them, CPU",
        "branches, accelerator",
        "evaluations per answer",
        "calls of the host",
        "copies",
        "collectives",
    )
    yield f"| {title} | {' | '.join(columns)} |\n|---{'|---:' * len(columns)}|\n"
    args = arguments()
    for name, fn in programs.items():
        cpu, other = (count(fn, *args, platform=p) for p in ("cpu", "cuda"))
        text = jax.jit(fn).lower(*args).compile().as_text() or ""
        loops = unknown_loops(text)
        found = spread(fn, *args)
        kinds = ", ".join(f"{found.count(k)} {k}" for k in dict.fromkeys(found)) or 0
        asked = (other.nested, cpu.branches, other.branches, f"{other.products:g}")
        values = (loops, *(asked if loops else (0, 0, 0, "all")), other.host, copies(text), kinds)
        yield f"| {name} | {' | '.join(map(str, values))} |\n"


def main() -> None:
    """Prints the tables."""
    argparse.ArgumentParser(prog="python -m benchmarks.programs", description=__doc__).parse_args()
    jax.config.update("jax_num_cpu_devices", 8)
    print("".join(table("solve", {name: forward(name) for name in FORWARD})))
    print("".join(table("gradient", {name: gradient(name) for name in GRADIENTS})))


if __name__ == "__main__":
    main()
