"""Fixed point problems whose answers are known without iterating."""

import jax.numpy as jnp
import numpy as np


def matrix(size: int, radius: float, seed: int = 0, *, symmetric: bool = False) -> np.ndarray:
    """A random float64 matrix of the given spectral radius."""
    w = np.random.default_rng(seed).normal(size=(size, size))
    w = w + w.T if symmetric else w
    return radius * w / np.abs(np.linalg.eigvals(w)).max()


def affine(w, b):
    """z* of z = z w + b, rows being samples; the closed form, differentiable by JAX."""
    return jnp.linalg.solve((jnp.eye(w.shape[0], dtype=w.dtype) - w).T, b.T).T


def tanh_system(seed: int = 0, batch: int = 4):
    """A coupled tanh network over leaves of different rank.

    Returns:
        `f(params, z)`, `params`, `z0`; z0 is {"a": (B, 5), "b": (B, 2, 3)}, float64.
    """
    rng = np.random.default_rng(seed)
    params = {
        "aa": jnp.asarray(0.2 * rng.normal(size=(5, 5))),
        "ba": jnp.asarray(0.2 * rng.normal(size=(2, 3, 5))),
        "ab": jnp.asarray(0.2 * rng.normal(size=(5, 2, 3))),
        "bb": jnp.asarray(0.2 * rng.normal(size=(3, 3))),
        "xa": jnp.asarray(rng.normal(size=(batch, 5))),
        "xb": jnp.asarray(rng.normal(size=(batch, 2, 3))),
    }

    def f(p, z):
        a, b = z["a"], z["b"]
        return {
            "a": jnp.tanh(a @ p["aa"] + jnp.einsum("nij,ijk->nk", b, p["ba"]) + p["xa"]),
            "b": jnp.tanh(jnp.einsum("nk,kij->nij", a, p["ab"]) + b @ p["bb"] + p["xb"]),
        }

    return f, params, {"a": jnp.zeros((batch, 5)), "b": jnp.zeros((batch, 2, 3))}
