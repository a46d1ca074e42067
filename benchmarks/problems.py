"""Fixed point problems of many kinds, one sample each, float64."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

SIZE = 64
RADII = (0.5, 0.9, 0.99, 0.999, 1.5)


@dataclasses.dataclass(frozen=True)
class Problem:
    """`z = f(z)` from `z0`, whose leaves have a batch axis of 1."""

    name: str
    f: Callable[[Any], Any]
    z0: Any


def problems() -> Iterator[Problem]:
    """All of them."""
    yield from affine()
    yield tanh_network()
    yield attention()
    yield convolution()
    yield max_pool()
    yield Problem("cos z", jnp.cos, jnp.zeros((1, 1)))
    yield Problem("cube root, 2 / z^2", lambda z: 2 / z**2, jnp.ones((1, 1)))
    yield stiff_ode()
    yield heat()
    yield mixture()


def affine() -> Iterator[Problem]:
    """`W z + b` for four kinds of W and all radii; one that has the eigenvalue 1 is left out."""
    rng = np.random.default_rng(0)
    q = np.linalg.qr(rng.normal(size=(SIZE, SIZE)))[0]
    gauss = rng.normal(size=(SIZE, SIZE))
    gauss /= np.abs(np.linalg.eigvals(gauss)).max()
    upper = np.triu(0.25 * rng.normal(size=(SIZE, SIZE)), 1)
    b = jnp.asarray(rng.normal(size=(1, SIZE)))
    both, positive = np.linspace(-1, 1, SIZE), np.linspace(0, 1, SIZE)
    kinds = {
        "symmetric": lambda r: q @ np.diag(r * both) @ q.T,
        "PSD": lambda r: q @ np.diag(r * positive) @ q.T,
        "Gaussian": lambda r: r * gauss,
        "non-normal": lambda r: q @ (np.diag(r * both) + upper) @ q.T,
    }
    for kind, make in kinds.items():
        for radius in RADII:
            w = make(radius)
            if np.abs(1 - np.linalg.eigvals(w)).min() > 1e-4:
                w = jnp.asarray(w.T)
                yield Problem(f"affine, {kind}, radius {radius:g}", lambda z, w=w: z @ w + b, 0 * b)


def tanh_network() -> Problem:
    rng = np.random.default_rng(1)
    w = jnp.asarray(1.1 * rng.normal(size=(128, 128)) / np.sqrt(128))
    x = jnp.asarray(rng.normal(size=(1, 128)))
    return Problem("tanh network", lambda z: jnp.tanh(z @ w + x), jnp.zeros_like(x))


def attention() -> Problem:
    """A transformer block with input injection, normalised at the end."""
    rng = np.random.default_rng(2)
    length, width = 8, 16
    q, k, v, up, down = (jnp.asarray(rng.normal(size=(width, width)) / 4) for _ in range(5))
    x = jnp.asarray(rng.normal(size=(1, length, width)))

    def normalise(z):
        z = z - z.mean(-1, keepdims=True)
        return z / jnp.sqrt((z**2).mean(-1, keepdims=True) + 1e-5)

    def f(z):
        scores = jnp.einsum("bid,bjd->bij", z @ q, z @ k) / np.sqrt(width)
        z = normalise(x + 0.5 * z + jax.nn.softmax(scores) @ z @ v)
        return normalise(z + 0.5 * jax.nn.gelu(z @ up) @ down)

    return Problem("softmax attention block", f, jnp.zeros_like(x))


def convolution() -> Problem:
    rng = np.random.default_rng(3)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 4, 4)) / 6)
    x = jnp.asarray(rng.normal(size=(1, 8, 8, 4)))

    def f(z):
        out = jax.lax.conv_general_dilated(
            z, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jax.nn.relu(out + x)

    return Problem("convolution, relu", f, jnp.zeros_like(x))


def max_pool() -> Problem:
    x = jnp.asarray(np.random.default_rng(4).normal(size=(1, 8, 8, 2)))

    def f(z):
        top = jax.lax.reduce_window(z, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")
        return 0.9 * top + x

    return Problem("max-pool, factor 0.9", f, jnp.zeros_like(x))


def stiff_ode() -> Problem:
    """A step of the implicit midpoint rule on van der Pol's equation, mu = 50."""
    y, h, mu = jnp.array([[2.0, -0.5]]), 0.1, 50.0

    def f(z):
        u, v = jnp.split((y + z) / 2, 2, axis=-1)
        return y + h * jnp.concatenate([v, mu * (1 - u**2) * v - u], -1)

    return Problem("implicit midpoint, van der Pol", f, y)


def heat() -> Problem:
    """An implicit Euler step of `u_t = (k(u) u_x)_x + exp(u)`, `k = 1 + u^2`, u = 0 at the ends."""
    x = jnp.linspace(0, 1, SIZE + 2)[None, 1:-1]
    start, dx, dt = jnp.sin(np.pi * x), 1 / (SIZE + 1), 5e-4

    def f(u):
        wide = jnp.pad(u, ((0, 0), (1, 1)))
        middle = (wide[:, 1:] + wide[:, :-1]) / 2
        flux = (1 + middle**2) * (wide[:, 1:] - wide[:, :-1]) / dx
        return start + dt * ((flux[:, 1:] - flux[:, :-1]) / dx + jnp.exp(u))

    return Problem("nonlinear heat, implicit Euler", f, start)


def mixture() -> Problem:
    """Three coupled states of different rank."""
    rng = np.random.default_rng(5)
    ab, ba, bb = (jnp.asarray(0.4 * rng.normal(size=s)) for s in ((8, 4), (4, 8), (4, 4)))
    x = jnp.asarray(rng.normal(size=(1, 8)))

    def f(z):
        a, b, c = z["a"], z["b"], z["c"]
        return {
            "a": jnp.tanh(b.mean(1) @ ba + c[:, None] * x),
            "b": jnp.tanh(b @ bb + (a @ ab)[:, None]) + jnp.arange(3.0)[None, :, None] / 3,
            "c": 0.5 * jnp.cos(a.sum(-1) + c),
        }

    z0 = {"a": jnp.zeros((1, 8)), "b": jnp.zeros((1, 3, 4)), "c": jnp.zeros((1,))}
    return Problem("mixture of three states", f, z0)
