"""Forward solves: what is drawn, and the programs that solve it."""

import dataclasses
import functools
import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jdeq

from .families import FAMILIES, Answer, Family
from .formulas import NUMBER, Params, equilibrium, on_device, wide_of
from .judge import judge as judge
from .variants import VARIANTS

SAMPLES, MAX_ITER = 16, 64
WIDTHS = (1, 4)
TOLERANCES = {  # those below what the dtype resolves come last
    "float64": (1.8e-12, 1e-3, 1e-6, 1e-9, 1e-16),
    "float32": (6.4e-6, 1e-2, 1e-3, 1e-4, 1e-8),
    "bfloat16": (2.6e-2, 1e-1, 5e-2, 2.6e-2, 1e-3),
    "float16": (5.5e-3, 1e-1, 3e-2, 1e-2, 1e-4),
}
EXPONENTS = {"float64": 500, "float32": 100, "bfloat16": 100, "float16": 10}
STARTS = ("zero", "random", "far", "warm", "near")


class Program(NamedTuple):
    """What is compiled once."""

    variant: str
    mode: str
    dtype: str
    width: int

    @property
    def name(self) -> str:
        return "/".join(("forward", *map(str, self)))

    @property
    def families(self) -> tuple[Family, ...]:
        variant = VARIANTS[self.variant]
        return tuple(
            f
            for f in FAMILIES.values()
            if f.narrowest <= self.width
            and (f.formula == "affine" or not variant.affine)
            and (f.symmetric or not variant.symmetric)
        )

    def compiled(self) -> Any:
        return _compiled(self)


PROGRAMS = tuple(
    Program(variant, mode, dtype, width)
    for dtype in TOLERANCES
    for width in WIDTHS
    for mode in ("rel", "abs")
    for variant in VARIANTS
)


@functools.cache
def _compiled(program: Program) -> Any:
    names = ("affine",) if VARIANTS[program.variant].affine else None

    @jax.jit
    def solve(number, p, scale, z0, tol, limit):
        solver = VARIANTS[program.variant].make(max_iter=MAX_ITER, tol=tol, stop_mode=program.mode)
        f = lambda z: equilibrium(number, p, scale, z, names)
        z, info = jdeq.deq(f, z0, solver=solver, max_iter=limit)
        return z, info._replace(abs_trace=(), rel_trace=())

    return solve


@dataclasses.dataclass(frozen=True)
class Case:
    """One solve's problems. `p`, `scale` (B, 1) and `z0` are in float64, rounded as f has them."""

    program: Program
    family: Family
    p: Params
    answer: Answer
    scale: np.ndarray
    z0: np.ndarray
    start: np.ndarray
    tol: float
    limit: int

    @property
    def solvable(self) -> bool:
        return self.answer.roots is not None

    def describe(self, i: int) -> dict[str, Any]:
        """What was asked in sample `i`, in units of its scale."""
        answer = self.answer
        roots = None if answer.roots is None else answer.roots[i].tolist()
        inverse = None if answer.inverse is None else float(np.nanmax(answer.inverse[i]))
        start = {"start": STARTS[self.start[i]], "z0": (self.z0[i] / self.scale[i]).tolist()}
        return {**start, "roots": roots, "inverse": inverse}


def draw(program: Program, seed: int, call: int) -> Case:
    """The same for the same arguments."""
    rng = np.random.default_rng([seed, zlib.crc32(program.name.encode()), call])
    families = program.families
    family = families[rng.integers(len(families))]
    return of_family(rng, program, family)


def of_family(rng: np.random.Generator, program: Program, family: Family) -> Case:
    dtype, n = program.dtype, program.width
    wide, limits = wide_of(dtype), jnp.finfo(dtype)
    zeros = {k: np.zeros((SAMPLES, n)) for k in "abc"}
    p = {**zeros, "w": np.zeros((SAMPLES, n, n)), "m": np.zeros((SAMPLES, n), bool)}
    p |= family.draw(rng, SAMPLES, n)
    p = {k: x if x.dtype == bool else x.astype(wide).astype(float) for k, x in p.items()}
    with np.errstate(all="ignore"):
        answer = family.answer(p)
    tolerances = TOLERANCES[dtype]
    tol = tolerances[rng.choice(len(tolerances), p=(0.3, 0.2, 0.2, 0.2, 0.1))]
    start = rng.choice(len(STARTS), SAMPLES, p=(0.35, 0.25, 0.15, 0.15, 0.1))
    u0 = _start(rng, program, p, answer, start, tol)
    biggest = max(1, np.abs(u0).max(), *(np.abs(p[k]).max() for k in "abc"))
    if answer.roots is not None:
        biggest = max(biggest, np.nanmax(np.abs(answer.roots)))
    most = min(EXPONENTS[dtype], int(np.log2(float(limits.max) / biggest)) - 6)
    each = (SAMPLES, 1) if program.mode == "rel" else (1, 1)  # tol is that of all the samples
    exponent = rng.integers(-EXPONENTS[dtype], most + 1, each)
    if rng.uniform() < 0.4:
        exponent = np.minimum(0 * exponent, most)
    scale = np.broadcast_to(2.0**exponent, (SAMPLES, 1))
    z0 = (scale * u0).astype(limits.dtype).astype(float)
    tol = tol if program.mode == "rel" else float(tol * scale[0, 0])
    limit = int(rng.choice((MAX_ITER, MAX_ITER, MAX_ITER, 20)))
    return Case(program, family, p, answer, scale, z0, start, tol, limit)


def _start(
    rng: np.random.Generator,
    program: Program,
    p: Params,
    answer: Answer,
    start: np.ndarray,
    tol: float,
) -> np.ndarray:
    """Where relative residuals mean something: not where they are below `tol` without an answer."""
    shape = (SAMPLES, program.width)
    noise, sizes = rng.normal(size=shape), rng.uniform(2, 3, (SAMPLES, 1))
    choices = [np.zeros(shape), 2 * noise, 10**sizes * noise]
    roots = answer.roots
    # where f(u) - u is flat, it is small beside a state that is far enough out
    flat = np.broadcast_to(answer.floor if roots is None else answer.gap / 2.5, (SAMPLES,))
    if program.mode == "rel":
        most = np.where(flat > 0, flat, 30 * tol)[:, None] / (10 * tol)
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


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a solve said, in float64."""

    z: np.ndarray
    abs_residual: np.ndarray
    rel_residual: np.ndarray
    status: np.ndarray
    nfe: int


def run(case: Case) -> Outcome:
    program = case.program
    wide = wide_of(program.dtype)
    cast = lambda x: x if x.dtype == bool else x.astype(wide)
    p, scale = on_device(({k: cast(x) for k, x in case.p.items()}, cast(case.scale)))
    number = np.int32(NUMBER[case.family.formula])
    tol, limit = np.asarray(case.tol, wide), np.asarray(case.limit, np.int32)
    z0 = jnp.asarray(case.z0, program.dtype)
    z, info = jax.device_get(program.compiled()(number, p, scale, z0, tol, jnp.asarray(limit)))
    wide64 = lambda x: np.asarray(x, np.float64)
    residuals = wide64(info.abs_residual), wide64(info.rel_residual)
    return Outcome(wide64(z), *residuals, np.asarray(info.status), int(info.nfe))
