"""Batches of matrices with given eigenvalues."""

import numpy as np

Random = np.random.Generator


def symmetric(rng: Random, eigenvalues: np.ndarray) -> np.ndarray:
    """(B, n) eigenvalues -> (B, n, n)."""
    n = eigenvalues.shape[-1]
    q = np.linalg.qr(rng.normal(size=(*eigenvalues.shape[:-1], n, n)))[0]
    return (q * eigenvalues[..., None, :]) @ q.swapaxes(-1, -2)


def exact(rng: Random, eigenvalues: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A matrix of these eigenvalues without any rounding, and its eigenvectors (columns).

    They are products of triangular matrices of -1, 0 and 1, whose inverses are integers, so with
    eigenvalues of few binary digits every entry is exact in float32.
    """
    *batch, n = eigenvalues.shape
    integers = lambda: rng.integers(-1, 2, (*batch, n, n)).astype(float)
    p = (np.tril(integers(), -1) + np.eye(n)) @ (np.triu(integers(), 1) + np.eye(n))
    inverse = np.round(np.linalg.inv(p))
    return (p * eigenvalues[..., None, :]) @ inverse, p


def normed(rng: Random, batch: int, n: int, low: float, high: float) -> np.ndarray:
    """Of spectral norms between `low` and `high`."""
    w = rng.normal(size=(batch, n, n))
    norm = np.linalg.norm(w, 2, (-2, -1))
    return w * (rng.uniform(low, high, batch) / norm)[:, None, None]


def triangular(rng: Random, eigenvalues: np.ndarray, coupling: float) -> np.ndarray:
    """Far from normal: what is beside the diagonal is `coupling` times larger, or so."""
    *batch, n = eigenvalues.shape
    upper = np.triu(coupling * rng.normal(size=(*batch, n, n)), 1)
    return upper + eigenvalues[..., None] * np.eye(n)


def rotation(rng: Random, batch: int, n: int, low: float, high: float) -> np.ndarray:
    """Rotations in the planes of neighbouring axes, times a factor; an odd axis stays."""
    w = np.zeros((batch, n, n))
    w[:, -1, -1] = 1
    angle, radius = rng.uniform(0.3, 3.0, batch), rng.uniform(low, high, batch)
    for i in range(0, n - 1, 2):
        w[:, i, i] = w[:, i + 1, i + 1] = radius * np.cos(angle)
        w[:, i + 1, i], w[:, i, i + 1] = radius * np.sin(angle), -radius * np.sin(angle)
    return w
