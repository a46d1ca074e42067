"""A small problem with a symmetric Jacobian, and its dense solution and gradients in NumPy."""

from typing import Any, NamedTuple

import numpy as np

CURVE = 0.3  # how far f is from affine


class Theta(NamedTuple):
    """`w` (D, D) symmetric, `x` (B, D)."""

    w: Any
    x: Any


def problem(batch: int, width: int) -> Theta:
    """Weights with eigenvalues in (-0.5, 0.5): the Jacobian's are in (-0.5, 0.8)."""
    rng = np.random.default_rng(0)
    q = np.linalg.qr(rng.normal(size=(width, width)))[0]
    return Theta(q @ np.diag(np.linspace(-0.5, 0.5, width)) @ q.T, rng.normal(size=(batch, width)))


def cotangent(theta: Theta) -> np.ndarray:
    """(B, D): what the loss multiplies the solution with."""
    return np.random.default_rng(1).normal(size=theta.x.shape)


def jacobians(theta: Theta, z: np.ndarray, curve: float) -> np.ndarray:
    """(B, D, D) of `f(z) = z w + curve tanh z + x`, symmetric."""
    return theta.w + curve * np.eye(z.shape[1]) * (1 - np.tanh(z) ** 2)[:, None]


def solution(theta: Theta, curve: float = CURVE) -> np.ndarray:
    """(B, D), by Newton's method with dense solves."""
    theta = Theta(*(np.asarray(a, np.float64) for a in theta))
    z = np.zeros_like(theta.x)
    for _ in range(30):
        residual = z @ theta.w + curve * np.tanh(z) + theta.x - z
        system = np.eye(z.shape[1]) - jacobians(theta, z, curve)
        z = z + np.linalg.solve(system, residual[..., None])[..., 0]
    return z


def gradient(theta: Theta, rule: str, steps: int = 0) -> Theta:
    """Of `sum(cotangent * z)` as a backward has it on an exact solution.

    Args:
        rule: "implicit", "jfb", or "phantom" for the first `steps` terms of the series.
    """
    z, v = solution(theta), cotangent(theta)
    j = jacobians(theta, z, CURVE)
    if rule == "implicit":
        y = np.linalg.solve(np.eye(z.shape[1]) - j, v[..., None])[..., 0]
    else:
        y = term = v
        for _ in range(1, steps if rule == "phantom" else 1):
            term = (j @ term[..., None])[..., 0]
            y = y + term
    return Theta(z.T @ y, y)


def distance(a: Any, b: Any) -> float:
    """`|a - b| / |b|`, the worst of the arrays."""
    pairs = zip(a, b, strict=True)
    wide = [(np.asarray(x, np.float64), np.asarray(y, np.float64)) for x, y in pairs]
    return max(float(np.linalg.norm(x - y) / np.linalg.norm(y)) for x, y in wide)
