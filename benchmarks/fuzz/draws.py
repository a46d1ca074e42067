"""How parameters are drawn, in units of the problem's scale."""

from collections.abc import Callable

import numpy as np

from . import matrices
from .formulas import Params

Random = np.random.Generator
Draw = Callable[[Random, tuple[int, ...]], np.ndarray]


def sixteenths(rng: Random, low: float, high: float, shape: tuple[int, ...]) -> np.ndarray:
    return np.round(16 * rng.uniform(low, high, shape)) / 16


def near_one(rng: Random, batch: int, n: int, signs: tuple[int, ...]) -> Params:
    """Exact, with an eigenvalue 1 - or + 2^-6 ... 2^-12."""
    first = 1 - rng.choice(signs, (batch, 1)) * 2.0 ** -rng.integers(6, 13, (batch, 1))
    others = sixteenths(rng, -0.9, 0.9, (batch, n - 1))
    w, _ = matrices.exact(rng, np.concatenate([first, others], -1))
    return {"w": w, "b": rng.normal(size=(batch, n))}


def signs(rng: Random, shape: tuple[int, ...]) -> np.ndarray:
    return rng.choice((-1.0, 1.0), shape)


def uniform(low: float, high: float) -> Callable[[Random, tuple[int, ...]], np.ndarray]:
    return lambda rng, shape: rng.uniform(low, high, shape)


def spread(low: float, high: float, signed: bool = True) -> Callable[..., np.ndarray]:
    """Uniform in the exponent of 10."""

    def draw(rng: Random, shape: tuple[int, ...]) -> np.ndarray:
        size = 10 ** rng.uniform(low, high, shape)
        return size * signs(rng, shape) if signed else size

    return draw


def constant(value: float) -> Callable[[Random, tuple[int, ...]], np.ndarray]:
    return lambda rng, shape: np.full(shape, value)


def indefinite(rng: Random, batch: int, n: int) -> np.ndarray:
    above = rng.uniform(size=(batch, n)) < 0.5
    return np.where(above, rng.uniform(1.3, 4, (batch, n)), rng.uniform(-4, 0.7, (batch, n)))


def one_near(value: float) -> Callable[[Random, int, int], np.ndarray]:
    def w(rng: Random, batch: int, n: int) -> np.ndarray:
        eigenvalues = rng.uniform(-0.9, 0.9, (batch, n))
        eigenvalues[:, 0] = value
        return matrices.symmetric(rng, eigenvalues)

    return w


def null(rng: Random, batch: int, n: int, others: np.ndarray, share: float) -> Params:
    """An affine map with the eigenvalue 1, exactly; `share` of b lies along its eigenvector."""
    w, vectors = matrices.exact(rng, np.concatenate([np.ones((batch, 1)), others], -1))
    weights = np.round(4 * rng.uniform(0.5, 2, (batch, n))) / 4
    weights[:, 0] *= share
    return {"w": w, "b": (vectors @ weights[..., None])[..., 0]}


def at_zero(rng: Random, batch: int, n: int) -> Params:
    return {"w": matrices.normed(rng, batch, n, 0.1, 0.95), "b": np.zeros((batch, n))}


def screw(rng: Random, batch: int, n: int) -> Params:
    b = rng.normal(size=(batch, n))
    b[:, -1] = signs(rng, (batch,)) * rng.uniform(0.5, 2, batch)
    w = matrices.rotation(rng, batch, n, 1, 1)
    if n % 2 == 0:
        w[:, -2:, -2:] = np.eye(2)
    return {"w": w, "b": b}


def half_solvable(rng: Random, batch: int, n: int) -> Params:
    solvable = rng.uniform(size=(batch, n)) < 0.5
    solvable[:, 0] = False
    return {"m": solvable, "b": spread(-0.3, 1)(rng, (batch, n))}
