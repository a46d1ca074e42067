"""Backward solves: `y = v + J^T y`, where J is that of an affine f, and v as large as it likes.

With J^T for W and v for b these are the affine families; so are their answers. The tolerance is
relative to the cotangent.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jdeq

from .cases import (
    MAX_ITER,
    TOLERANCES,
    Case,
    Outcome,
    Program,
    parameters,
    rounded,
    scales,
    seeded,
    tolerance,
)
from .formulas import on_device, wide_of
from .forward import outcome
from .variants import VARIANTS

BEYOND = 0.2  # the share of solves in which y may be larger than the dtype holds
PROGRAMS = tuple(
    Program("backward", variant, mode, dtype, width)
    for dtype, mode, width in (
        *((dtype, "rel", 4) for dtype in TOLERANCES),
        ("float32", "abs", 4),
        ("float32", "rel", 1),
    )
    for variant in VARIANTS
)


@functools.cache
def compiled(program: Program) -> Any:
    said: list[jdeq.SolverInfo] = []

    @jax.jit
    def pull(w, v, tol):
        solver = VARIANTS[program.variant].make(max_iter=MAX_ITER, tol=tol, stop_mode=program.mode)

        def state(b):
            f = lambda z: ((w * z.astype(w.dtype)[:, None, :]).sum(-1) + b).astype(v.dtype)
            backward = jdeq.IFT(solver, callback=said.append)
            return jdeq.deq(f, jnp.zeros_like(v), max_iter=0, backward=backward)[0]

        return jax.vjp(state, jnp.zeros(v.shape, w.dtype))[1](v)[0]

    def solve(*args: Any) -> Any:
        said.clear()
        y = jax.device_get(pull(*args))
        jax.effects_barrier()
        return y, said.pop()

    return solve


def draw(program: Program, seed: int, call: int) -> Case:
    rng, family = seeded(program, seed, call)
    p, dtype = parameters(rng, program, family), program.dtype
    with np.errstate(all="ignore"):
        roots = family.answer(p).roots
    sizes = (p["b"], *(() if roots is None or rng.uniform() < BEYOND else (roots,)))
    biggest = max(1, *(float(np.nanmax(np.abs(x))) for x in sizes))
    scale = scales(rng, dtype, biggest, each=True)
    v = rounded(scale * p["b"], dtype)
    p["b"] = v / scale
    with np.errstate(all="ignore"):
        answer = family.answer(p)
    return Case(
        program,
        family,
        p,
        answer,
        scale=scale,
        z0=v,
        start=np.full(len(v), "cotangent"),
        tol=tolerance(rng, dtype),
        claim_of="b",
        slack=1.1 if program.mode == "rel" else 2.2,  # the next power of two is what it is taken of
        limit=MAX_ITER,
    )


def run(case: Case) -> Outcome:
    wide = wide_of(case.program.dtype)
    w = case.p["w"].swapaxes(-1, -2).astype(wide)
    args = on_device((w, case.z0.astype(jnp.dtype(case.program.dtype)), np.asarray(case.tol, wide)))
    return outcome(*compiled(case.program)(*args))
