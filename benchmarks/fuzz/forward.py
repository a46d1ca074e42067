"""Forward solves: what is drawn, and the programs that solve it."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jdeq

from .answers import Answer
from .cases import (
    MAX_ITER,
    SAMPLES,
    TOLERANCES,
    Case,
    Outcome,
    Program,
    Random,
    most_iterations,
    parameters,
    rounded,
    scales,
    seeded,
    tolerance,
)
from .formulas import NUMBER, equilibrium, on_device, wide_of
from .variants import VARIANTS

STARTS = ("zero", "random", "far", "warm", "near")
SCALAR = ("float32", "bfloat16")  # in which single unknowns are tried, too
PROGRAMS = tuple(
    Program("forward", variant, mode, dtype, width)
    for dtype in TOLERANCES
    for width in ((4, 1) if dtype in SCALAR else (4,))
    for mode in ("rel", "abs")
    for variant in VARIANTS
)


@functools.cache
def compiled(program: Program) -> Any:
    names = ("affine",) if VARIANTS[program.variant].affine else None

    @jax.jit
    def solve(number, p, scale, z0, tol, limit):
        solver = VARIANTS[program.variant].make(max_iter=MAX_ITER, tol=tol, stop_mode=program.mode)
        f = lambda z: equilibrium(number, p, scale, z, names)
        z, info = jdeq.deq(f, z0, solver=solver, max_iter=limit)
        return z, info._replace(abs_trace=(), rel_trace=())

    return solve


def draw(program: Program, seed: int, call: int) -> Case:
    rng, family = seeded(program, seed, call)
    dtype, relative = program.dtype, program.mode == "rel"
    p = parameters(rng, program, family)
    with np.errstate(all="ignore"):
        answer = family.answer(p)
    tol = tolerance(rng, dtype)
    start = rng.choice(len(STARTS), SAMPLES, p=(0.35, 0.25, 0.15, 0.15, 0.1))
    u0 = _start(rng, program, answer, start, tol)
    sizes = (u0, *(p[k] for k in "abc"), *(() if answer.roots is None else (answer.roots,)))
    biggest = max(1, *(float(np.nanmax(np.abs(x))) for x in sizes))
    scale = scales(rng, dtype, biggest, each=relative)  # an absolute tol is that of all samples
    return Case(
        program,
        family,
        p,
        answer,
        scale=scale,
        z0=rounded(scale * u0, dtype),
        start=np.array(STARTS)[start if answer.roots is not None else start % 3],
        tol=tol if relative else tol * float(scale[0, 0]),
        claim_of="f" if relative else "1",
        slack=1.1,
        limit=most_iterations(rng),
    )


def _start(
    rng: Random, program: Program, answer: Answer, start: np.ndarray, tol: float
) -> np.ndarray:
    """Where residuals mean something: not where they are small, or rounded away, beside a state."""
    shape = (SAMPLES, program.width)
    noise, sizes = rng.normal(size=shape), rng.uniform(2, 3, (SAMPLES, 1))
    choices = [np.zeros(shape), 2 * noise, 10**sizes * noise]
    roots = answer.roots
    # where f(u) - u is flat, a state that is far enough out hides it
    flat = np.broadcast_to(answer.floor if roots is None else answer.gap / 2.5, (SAMPLES,))
    share = tol if program.mode == "rel" else float(jnp.finfo(program.dtype).eps)
    most = np.where(flat > 0, flat, 30 * share)[:, None] / (10 * share)
    choices = [_cut(u0, most) for u0 in choices]
    if roots is None:
        return np.choose(start[:, None] % len(choices), choices)
    which = np.argmin(np.where(np.isnan(roots), np.inf, rng.uniform(size=roots.shape)), -1)
    root = np.take_along_axis(roots, which[..., None], -1)[..., 0]
    near = root * (1 + 1e-2 * noise) + 1e-2 * rng.normal(size=shape)
    return np.choose(start[:, None], [*choices, root, near])


def _cut(u: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Rows no longer than `most`."""
    length = np.linalg.norm(u, axis=1, keepdims=True)
    return np.where(length > most, u * np.where(length > most, most, 1) / (length + 1e-300), u)


def run(case: Case) -> Outcome:
    program = case.program
    wide = wide_of(program.dtype)
    cast = lambda x: x if x.dtype == bool else x.astype(wide)
    p, scale = on_device(({k: cast(x) for k, x in case.p.items()}, cast(case.scale)))
    number, limit = np.int32(NUMBER[case.family.formula]), jnp.asarray(case.limit, jnp.int32)
    z0 = jnp.asarray(case.z0, program.dtype)
    solved = compiled(program)(number, p, scale, z0, np.asarray(case.tol, wide), limit)
    return outcome(*jax.device_get(solved))


def outcome(z: Any, info: Any) -> Outcome:
    wide = lambda x: np.asarray(x, np.float64)
    residuals = wide(info.abs_residual), wide(info.rel_residual)
    return Outcome(wide(z), *residuals, np.asarray(info.status), int(info.nfe))
