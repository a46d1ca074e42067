"""Families of problems: how parameters are drawn, and what is known of the answer.

All in units of the problem's scale. Answers are computed in float64 from the parameters as `f` has
them, after rounding.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from . import matrices
from .formulas import Params, exactly

Random = np.random.Generator


@dataclasses.dataclass(frozen=True)
class Answer:
    """What is known of B problems of n unknowns.

    Attributes:
        roots: (B, n, R) the solutions. R > 1 where the unknowns are independent of each other: any
            combination. NaN: none. None: no solution at all.
        inverse: (B, n, R) `|(I - J)^-1|` there, in the 2-norm.
        lipschitz: (B,) of f near the solutions.
        gap: (B,) how far from a root a residual says how far it is; inf: everywhere.
        floor: (B,) without a solution: no residual is smaller. 0 if they vanish at infinity.
        free: (B, n, n) a projection: directions in which any step leads to another solution.
    """

    roots: Any
    inverse: Any = None
    lipschitz: Any = None
    gap: Any = np.inf
    floor: Any = None
    free: Any = None

    def nearest(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The solution (B, n) next to `u`, and `|(I - J)^-1|` (B,) there."""
        assert self.roots is not None
        away = np.abs(self.roots - u[..., None])
        which = np.argmin(np.where(np.isnan(away), np.inf, away), -1)[..., None]
        root, inverse = (
            np.take_along_axis(x, which, -1)[..., 0] for x in (self.roots, self.inverse)
        )
        if self.free is not None:
            root = root + (self.free @ (u - root)[..., None])[..., 0]
        return root, inverse.max(-1)


@dataclasses.dataclass(frozen=True)
class Family:
    """`tame`: f contracts, so no solver has an excuse for a state that is not finite."""

    name: str
    formula: str
    draw: Callable[[Random, int, int], Params]
    answer: Callable[[Params], Answer]
    tame: bool = False
    symmetric: bool = False
    narrowest: int = 1


def none(floor: Callable[[Params], np.ndarray]) -> Callable[[Params], Answer]:
    return lambda p: Answer(None, floor=floor(p))


def vanishing(p: Params) -> Answer:
    return Answer(None, floor=np.zeros(len(p["b"])))


def linear(p: Params) -> Answer:
    gap = np.eye(p["w"].shape[-1]) - p["w"]
    roots = np.linalg.solve(gap, p["b"][..., None])
    inverse = np.linalg.norm(np.linalg.inv(gap), 2, (-2, -1))
    return Answer(roots, _spread(inverse, roots), np.linalg.norm(p["w"], 2, (-2, -1)))


def contracting(formula: str) -> Callable[[Params], Answer]:
    """Of a map with the Lipschitz constant |w| < 1: iterated to the last digit."""

    def answer(p: Params) -> Answer:
        lipschitz = np.linalg.norm(p["w"], 2, (-2, -1))
        u = np.zeros_like(p["b"])
        for _ in range(800):
            u = exactly(formula, p, u)
        roots = u[..., None]
        return Answer(roots, _spread(1 / (1 - lipschitz), roots), lipschitz)

    return answer


def independent(
    roots: list[np.ndarray], slopes: Callable[[np.ndarray], np.ndarray], gap: np.ndarray
) -> Answer:
    """Every unknown has these roots; `slopes` of phi there."""
    stacked = np.stack(roots, -1)
    with np.errstate(all="ignore"):
        slope = slopes(stacked)
        inverse = 1 / np.abs(1 - slope)
    return Answer(stacked, inverse, np.nanmax(np.abs(slope), (1, 2)), gap)


def _spread(per_sample: np.ndarray, like: np.ndarray) -> np.ndarray:
    return np.broadcast_to(per_sample[:, None, None], like.shape)


def _cubic(p: Params) -> Answer:
    a, b, c = p["a"][..., None], p["b"][..., None], p["c"][..., None]
    slopes = lambda u: 1 - a * (3 * (u - b) ** 2 - c * c)
    return independent([p["b"], p["b"] - p["c"], p["b"] + p["c"]], slopes, np.abs(p["c"]).min(-1))


def _absolute(p: Params) -> Answer:
    a, b = p["a"], p["b"]
    right, left = b / (1 - a), b / (1 + a)
    roots = [np.where(right >= 0, right, np.nan), np.where(left < 0, left, np.nan)]
    slopes = lambda u: a[..., None] * np.sign(u)
    contracts = np.all(np.abs(a) < 1, -1)
    return independent(roots, slopes, np.where(contracts, np.inf, np.abs(b).min(-1) / 2))


def _square_root(p: Params) -> Answer:
    root = ((1 + np.sqrt(1 + 4 * p["b"])) / 2) ** 2
    return independent([root], lambda u: 0.5 / np.sqrt(u), root.min(-1) / 2)


def _exp(p: Params) -> Answer:
    b = p["b"]
    roots = []
    for u in (-b, np.log(b) + 1):
        for _ in range(60):
            u = u - (np.exp(u) - b - u) / (np.exp(u) - 1)
        roots.append(u)
    return independent(roots, np.exp, (roots[1] - roots[0]).min(-1))


def _hyperbola(p: Params) -> Answer:
    root = (p["b"] ** 2 - 1) / (2 * p["b"])
    slopes = lambda u: u / np.sqrt(u * u + 1)
    return independent([root], slopes, np.full(len(root), 0.25))


def _square(p: Params) -> Answer:
    d = np.sqrt(1 - 4 * p["b"])
    return independent([(1 - d) / 2, (1 + d) / 2], lambda u: 2 * u, d.min(-1))


def _null(rng: Random, batch: int, n: int, others: np.ndarray, share: float) -> Params:
    """An affine map with the eigenvalue 1, exactly; `share` of b lies along its eigenvector."""
    w, vectors = matrices.exact(rng, np.concatenate([np.ones((batch, 1)), others], -1))
    weights = np.round(4 * rng.uniform(0.5, 2, (batch, n))) / 4
    weights[:, 0] *= share
    return {"w": w, "b": (vectors @ weights[..., None])[..., 0]}


def _inconsistent_floor(p: Params) -> np.ndarray:
    """The part of b along the left null vector of I - W."""
    left = np.linalg.svd(np.eye(p["w"].shape[-1]) - p["w"])[0][..., -1]
    return np.abs((left * p["b"]).sum(-1))


def _solvable_though_singular(p: Params) -> Answer:
    """The answer if b is in the range, exactly; else nothing is known."""
    gap = np.eye(p["w"].shape[-1]) - p["w"]
    pseudo = np.linalg.pinv(gap, rcond=1e-10)
    roots = pseudo @ p["b"][..., None]
    known = _length((gap @ roots)[..., 0] - p["b"]) <= 1e-12 * _length(p["b"])
    inverse = np.where(known, np.linalg.norm(pseudo, 2, (-2, -1)), np.inf)
    lipschitz = np.linalg.norm(p["w"], 2, (-2, -1))
    free = np.eye(p["w"].shape[-1]) - pseudo @ gap
    return Answer(roots, _spread(inverse, roots), lipschitz, free=free)


def _sixteenths(rng: Random, low: float, high: float, shape: tuple[int, ...]) -> np.ndarray:
    return np.round(16 * rng.uniform(low, high, shape)) / 16


def _near_one(rng: Random, batch: int, n: int, signs: tuple[int, ...]) -> Params:
    """Exact, with an eigenvalue 1 - or + 2^-6 ... 2^-12."""
    first = 1 - rng.choice(signs, (batch, 1)) * 2.0 ** -rng.integers(6, 13, (batch, 1))
    others = _sixteenths(rng, -0.9, 0.9, (batch, n - 1))
    w, _ = matrices.exact(rng, np.concatenate([first, others], -1))
    return {"w": w, "b": rng.normal(size=(batch, n))}


def _signs(rng: Random, shape: tuple[int, ...]) -> np.ndarray:
    return rng.choice((-1.0, 1.0), shape)


def affine(name: str, w: Callable[[Random, int, int], np.ndarray], **kinds: Any) -> Family:
    draw = lambda rng, batch, n: {"w": w(rng, batch, n), "b": rng.normal(size=(batch, n))}
    return Family(name, "affine", draw, linear, **kinds)


def scalar(name: str, formula: str, answer: Callable[[Params], Answer], **draws: Any) -> Family:
    """Of independent unknowns; `draws`: of each parameter, from (rng, shape)."""
    draw = lambda rng, batch, n: {k: d(rng, (batch, n)) for k, d in draws.items()}
    return Family(name, formula, draw, answer)


def uniform(low: float, high: float) -> Callable[[Random, tuple[int, ...]], np.ndarray]:
    return lambda rng, shape: rng.uniform(low, high, shape)


def spread(low: float, high: float, signed: bool = True) -> Callable[..., np.ndarray]:
    """Uniform in the exponent of 10."""

    def draw(rng: Random, shape: tuple[int, ...]) -> np.ndarray:
        size = 10 ** rng.uniform(low, high, shape)
        return size * _signs(rng, shape) if signed else size

    return draw


def constant(value: float) -> Callable[[Random, tuple[int, ...]], np.ndarray]:
    return lambda rng, shape: np.full(shape, value)


def _indefinite(rng: Random, batch: int, n: int) -> np.ndarray:
    above = rng.uniform(size=(batch, n)) < 0.5
    return np.where(above, rng.uniform(1.3, 4, (batch, n)), rng.uniform(-4, 0.7, (batch, n)))


def _one_near(value: float) -> Callable[[Random, int, int], np.ndarray]:
    def w(rng: Random, batch: int, n: int) -> np.ndarray:
        eigenvalues = rng.uniform(-0.9, 0.9, (batch, n))
        eigenvalues[:, 0] = value
        return matrices.symmetric(rng, eigenvalues)

    return w


def _net(name: str, formula: str) -> Family:
    draw = lambda rng, batch, n: {
        "w": matrices.normed(rng, batch, n, 0.1, 0.95),
        "b": rng.normal(size=(batch, n)),
    }
    return Family(name, formula, draw, contracting(formula), tame=True)


def _at_zero(rng: Random, batch: int, n: int) -> Params:
    return {"w": matrices.normed(rng, batch, n, 0.1, 0.95), "b": np.zeros((batch, n))}


def _screw(rng: Random, batch: int, n: int) -> Params:
    b = rng.normal(size=(batch, n))
    b[:, -1] = _signs(rng, (batch,)) * rng.uniform(0.5, 2, batch)
    w = matrices.rotation(rng, batch, n, 1, 1)
    if n % 2 == 0:
        w[:, -2:, -2:] = np.eye(2)
    return {"w": w, "b": b}


def _half_solvable(rng: Random, batch: int, n: int) -> Params:
    solvable = rng.uniform(size=(batch, n)) < 0.5
    solvable[:, 0] = False
    return {"m": solvable, "b": spread(-0.3, 1)(rng, (batch, n))}


SOLVABLE = (
    affine(
        "contracting, symmetric",
        lambda rng, b, n: matrices.symmetric(rng, rng.uniform(-0.95, 0.95, (b, n))),
        tame=True,
        symmetric=True,
    ),
    affine("contracting", lambda rng, b, n: matrices.normed(rng, b, n, 0.1, 0.95), tame=True),
    affine("radius 0.999", _one_near(0.999), symmetric=True),
    affine("eigenvalue 1.001", _one_near(1.001)),
    affine(
        "far below 0",
        lambda rng, b, n: matrices.symmetric(rng, rng.uniform(-4, 0.5, (b, n))),
        symmetric=True,
    ),
    affine("indefinite", lambda rng, b, n: matrices.symmetric(rng, _indefinite(rng, b, n))),
    affine(
        "non-normal",
        lambda rng, b, n: matrices.triangular(rng, rng.uniform(-0.8, 0.8, (b, n)), 5),
        narrowest=2,
    ),
    affine("rotation", lambda rng, b, n: 0.999 * matrices.rotation(rng, b, n, 0.9, 1)),
    Family("huge solution", "affine", lambda r, b, n: _near_one(r, b, n, (1, -1)), linear),
    Family(
        "singular I - J, solvable",
        "affine",
        lambda rng, b, n: _null(rng, b, n, rng.choice((-1, 0, 0.5), (b, n - 1)), 0),
        _solvable_though_singular,
    ),
    Family("z* = 0, affine", "affine", _at_zero, linear, tame=True),
    Family("z* = 0, tanh", "tanh", _at_zero, contracting("tanh"), tame=True),
    _net("tanh", "tanh"),
    _net("relu", "relu"),
    scalar("cubic", "cubic", _cubic, a=spread(-1, 0.5), b=uniform(-2, 2), c=uniform(0.5, 2)),
    scalar("a |z| + b", "absolute", _absolute, a=uniform(-0.95, 0.95), b=uniform(-2, 2)),
    scalar("|z| - b", "absolute", _absolute, a=constant(1), b=uniform(-2, -0.5)),
    scalar("sqrt(z) + b", "square root", _square_root, b=uniform(0.1, 3)),
    scalar("exp(z) - b", "exp", _exp, b=uniform(1.5, 5)),
    scalar("sqrt(z^2 + 1) - b", "hyperbola", _hyperbola, b=uniform(-1.5, -0.1)),
    scalar("z^2 - b", "square", _square, b=uniform(-3, 0)),
)
UNSOLVABLE = (
    scalar("z + b", "shift", none(lambda p: _length(p["b"])), b=spread(-0.5, 1)),
    scalar("z + b, tiny", "shift", none(lambda p: _length(p["b"])), b=spread(-5, -3)),
    scalar("z + b, huge", "shift", none(lambda p: _length(p["b"])), b=spread(3, 6)),
    Family(
        "singular I - J",
        "affine",
        lambda rng, b, n: _null(rng, b, n, _sixteenths(rng, -2, 0.8, (b, n - 1)), 1),
        none(_inconsistent_floor),
    ),
    Family(
        "J = I",
        "affine",
        lambda rng, b, n: {"w": np.tile(np.eye(n), (b, 1, 1)), "b": spread(-0.5, 1)(rng, (b, n))},
        none(lambda p: _length(p["b"])),
        symmetric=True,
    ),
    Family("rotation and drift", "affine", _screw, none(lambda p: np.abs(p["b"][:, -1]))),
    scalar(
        "a |z| + b, a >= 1",
        "absolute",
        none(lambda p: _length(p["b"])),
        a=lambda rng, shape: rng.choice((1.0, 1.25, 2.0), shape),
        b=uniform(0.5, 2),
    ),
    scalar(
        "z + b + softplus",
        "softplus",
        none(lambda p: _length(p["b"])),
        a=lambda rng, shape: rng.choice((-1.0, 1.0), shape),
        b=uniform(0.2, 1),
    ),
    scalar("z + b + exp(-z)", "decay", none(lambda p: _length(p["b"])), b=uniform(0.2, 1)),
    scalar("sqrt(z^2 + 1) + b", "hyperbola", none(lambda p: _length(p["b"])), b=uniform(0.2, 1)),
    scalar(
        "z + b + a sin z",
        "sine",
        none(lambda p: _length(np.abs(p["b"]) - np.abs(p["a"]))),
        a=uniform(-0.5, 0.5),
        b=lambda rng, shape: _signs(rng, shape) * rng.uniform(1, 2, shape),
    ),
    scalar("z^2 + b", "square", none(lambda p: _length(p["b"] - 0.25)), b=uniform(0.7, 2)),
    scalar("exp(z) + b", "exp", none(lambda p: _length(1 - p["b"])), b=uniform(-1, 0.3)),
    scalar(
        "z + b + a z'^2",
        "coupled",
        none(lambda p: _length(p["b"])),
        a=uniform(0, 1),
        b=uniform(0.3, 2),
    ),
    Family("half of it solvable", "mixed", _half_solvable, none(lambda p: _drift(p))),
    scalar("z + exp(-z)", "decay", vanishing, b=constant(0)),
    scalar(
        "z + softplus",
        "softplus",
        vanishing,
        a=lambda rng, shape: rng.choice((-1.0, 1.0), shape),
        b=constant(0),
    ),
    scalar("sqrt(z^2 + 1)", "hyperbola", vanishing, b=constant(0)),
)


def _length(b: np.ndarray) -> np.ndarray:
    return np.sqrt((b * b).sum(-1))


def _drift(p: Params) -> np.ndarray:
    return _length(np.where(p["m"], 0, p["b"]))


FAMILIES = {f.name: f for f in (*SOLVABLE, *UNSOLVABLE)}
