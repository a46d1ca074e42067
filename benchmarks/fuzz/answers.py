"""What is known of solutions: in float64, from the parameters as `f` has them, rounded."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from .formulas import Params, exactly


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


def cubic(p: Params) -> Answer:
    a, b, c = p["a"][..., None], p["b"][..., None], p["c"][..., None]
    slopes = lambda u: 1 - a * (3 * (u - b) ** 2 - c * c)
    return independent([p["b"], p["b"] - p["c"], p["b"] + p["c"]], slopes, np.abs(p["c"]).min(-1))


def absolute(p: Params) -> Answer:
    a, b = p["a"], p["b"]
    right, left = b / (1 - a), b / (1 + a)
    roots = [np.where(right >= 0, right, np.nan), np.where(left < 0, left, np.nan)]
    slopes = lambda u: a[..., None] * np.sign(u)
    contracts = np.all(np.abs(a) < 1, -1)
    return independent(roots, slopes, np.where(contracts, np.inf, np.abs(b).min(-1) / 2))


def square_root(p: Params) -> Answer:
    root = ((1 + np.sqrt(1 + 4 * p["b"])) / 2) ** 2
    return independent([root], lambda u: 0.5 / np.sqrt(u), root.min(-1) / 2)


def exp(p: Params) -> Answer:
    b = p["b"]
    roots = []
    for u in (-b, np.log(b) + 1):
        for _ in range(60):
            u = u - (np.exp(u) - b - u) / (np.exp(u) - 1)
        roots.append(u)
    return independent(roots, np.exp, (roots[1] - roots[0]).min(-1))


def hyperbola(p: Params) -> Answer:
    root = (p["b"] ** 2 - 1) / (2 * p["b"])
    slopes = lambda u: u / np.sqrt(u * u + 1)
    return independent([root], slopes, np.full(len(root), 0.25))


def square(p: Params) -> Answer:
    d = np.sqrt(1 - 4 * p["b"])
    return independent([(1 - d) / 2, (1 + d) / 2], lambda u: 2 * u, d.min(-1))


def inconsistent_floor(p: Params) -> np.ndarray:
    """The part of b along the left null vector of I - W."""
    left = np.linalg.svd(np.eye(p["w"].shape[-1]) - p["w"])[0][..., -1]
    return np.abs((left * p["b"]).sum(-1))


def solvable_though_singular(p: Params) -> Answer:
    """The answer if b is in the range, exactly; else nothing is known."""
    gap = np.eye(p["w"].shape[-1]) - p["w"]
    pseudo = np.linalg.pinv(gap, rcond=1e-10)
    roots = pseudo @ p["b"][..., None]
    known = length((gap @ roots)[..., 0] - p["b"]) <= 1e-12 * length(p["b"])
    inverse = np.where(known, np.linalg.norm(pseudo, 2, (-2, -1)), np.inf)
    lipschitz = np.linalg.norm(p["w"], 2, (-2, -1))
    free = np.eye(p["w"].shape[-1]) - pseudo @ gap
    return Answer(roots, _spread(inverse, roots), lipschitz, free=free)


def beyond_b(p: Params) -> Answer:
    """No solution, and no residual below |b|."""
    return Answer(None, floor=length(p["b"]))


def length(b: np.ndarray) -> np.ndarray:
    return np.sqrt((b * b).sum(-1))


def drift(p: Params) -> np.ndarray:
    return length(np.where(p["m"], 0, p["b"]))
