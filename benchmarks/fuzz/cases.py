"""What is asked in a solve, and what was said."""

import dataclasses
import zlib
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .answers import Answer
from .families import FAMILIES, Family
from .formulas import Params, wide_of
from .variants import VARIANTS

Random = np.random.Generator
SAMPLES, MAX_ITER = 16, 64
TOLERANCES = {  # those below what the dtype resolves come last
    "float64": (1.8e-12, 1e-3, 1e-6, 1e-9, 1e-16),
    "float32": (6.4e-6, 1e-2, 1e-3, 1e-4, 1e-8),
    "bfloat16": (2.6e-2, 1e-1, 5e-2, 2.6e-2, 1e-3),
    "float16": (5.5e-3, 1e-1, 3e-2, 1e-2, 1e-4),
}
EXPONENTS = {"float64": 500, "float32": 100, "bfloat16": 100, "float16": 10}
HEADROOM = 6  # powers of two between the largest number of a problem and the dtype's


class Program(NamedTuple):
    """What is compiled once. `width`: how many unknowns a sample has."""

    direction: str
    variant: str
    mode: str
    dtype: str
    width: int

    @property
    def name(self) -> str:
        return "/".join(map(str, self))

    @property
    def families(self) -> tuple[Family, ...]:
        variant = VARIANTS[self.variant]
        affine = variant.affine or self.direction == "backward"
        return tuple(
            f
            for f in FAMILIES.values()
            if f.narrowest <= self.width
            and (f.formula == "affine" or not affine)
            and (f.symmetric or not variant.symmetric)
        )


@dataclasses.dataclass(frozen=True)
class Case:
    """The problems of one solve.

    Attributes:
        p: parameters, in float64 but rounded as f has them, in units of the scale.
        answer: what is known of the solution.
        scale: (B, 1), powers of two.
        z0: (B, n), rounded as the solver gets it.
        start: (B,) str, what was meant by it.
        tol: the tolerance.
        claim_of: "f", the tolerance is relative to |f|; "b", to |b|, the cotangent; "1", to 1.
        slack: factor on the tolerance that is granted.
        limit: most iterations.
    """

    program: Program
    family: Family
    p: Params
    answer: Answer
    scale: np.ndarray
    z0: np.ndarray
    start: np.ndarray
    tol: float
    claim_of: str
    slack: float
    limit: int

    def sample(self, i: int) -> dict[str, Any]:
        """What was asked in sample `i`, in units of its scale."""
        answer = self.answer
        return {
            "family": self.family.name,
            "tol": self.tol,
            "limit": self.limit,
            "scale": f"2^{int(np.log2(self.scale[i, 0]))}",
            "start": str(self.start[i]),
            "z0": (self.z0[i] / self.scale[i]).tolist(),
            "roots": None if answer.roots is None else answer.roots[i].tolist(),
            "inverse": None if answer.inverse is None else float(np.nanmax(answer.inverse[i])),
        }


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a solve said, in float64; `nfe` for the whole batch."""

    z: np.ndarray
    abs_residual: np.ndarray
    rel_residual: np.ndarray
    status: np.ndarray
    nfe: int


def seeded(program: Program, seed: int, call: int) -> tuple[Random, Family]:
    """The same for the same arguments."""
    rng = np.random.default_rng([seed, zlib.crc32(program.name.encode()), call])
    families = program.families
    return rng, families[rng.integers(len(families))]


def parameters(rng: Random, program: Program, family: Family) -> Params:
    """Those of the family, rounded as f has them; zeros for what it does not use."""
    shape = (SAMPLES, program.width)
    unused = {k: np.zeros(shape) for k in "abc"}
    p = {**unused, "w": np.zeros((*shape, program.width)), "m": np.zeros(shape, bool)}
    p |= family.draw(rng, *shape)
    wide = wide_of(program.dtype)
    return {k: x if x.dtype == bool else x.astype(wide).astype(float) for k, x in p.items()}


def tolerance(rng: Random, dtype: str) -> float:
    return float(rng.choice(TOLERANCES[dtype], p=(0.3, 0.2, 0.2, 0.2, 0.1)))


def most_iterations(rng: Random) -> int:
    return int(rng.choice((MAX_ITER, 20), p=(0.75, 0.25)))


def scales(rng: Random, dtype: str, biggest: float, *, each: bool) -> np.ndarray:
    """(SAMPLES, 1) powers of two, of a kind for `each` sample or for all; 1 in four of ten."""
    room = int(np.log2(float(jnp.finfo(dtype).max) / biggest)) - HEADROOM
    widest = EXPONENTS[dtype]
    most = max(-widest, min(widest, room))
    exponent = rng.integers(-widest, most + 1, (SAMPLES if each else 1, 1))
    if rng.uniform() < 0.4:
        exponent = np.minimum(0 * exponent, most)
    return np.broadcast_to(2.0**exponent, (SAMPLES, 1))


def rounded(x: np.ndarray, dtype: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        return x.astype(jnp.dtype(dtype)).astype(float)
