"""What a linear map, known by its products only, does to each sample's vectors."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ._space import PyTree, Space, pick, put

Apply = Callable[[PyTree], PyTree]
Draw = Callable[..., Array]  # (key, shape, dtype) -> array


def random_like(key: Array, z: PyTree, draw: Draw = jax.random.normal) -> PyTree:
    """Independent random leaves of the shapes, dtypes and sharding of `z`."""
    leaves, treedef = jax.tree.flatten(z)
    keys = jax.random.split(key, len(leaves))
    draws = [
        draw(k, x.shape, x.dtype) + jnp.zeros_like(x) for k, x in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(treedef, draws)


def repeat(z: PyTree, times: int) -> PyTree:
    """`times` copies of `z` along a new leading axis of every leaf."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x[None], (times, *x.shape)), z)


def normalised(space: Space, x: PyTree) -> tuple[PyTree, Array]:
    """`x / ||x||` per sample, 0 where that is meaningless, and `||x||`."""
    norm = space.norm(x)
    good = jnp.isfinite(norm) & (norm > 0)
    return space.scale(x, jnp.where(good, 1 / jnp.where(good, norm, 1), 0)), norm


def largest_singular_value(
    space: Space, push: Apply, pull: Apply, start: PyTree, n_iters: int
) -> Array:
    """`||J||_2` per sample, from below: products with J and J^T in turn, `n_iters` of each."""

    def alternate(_, carry):
        _, moved = normalised(space, push(carry[0]))
        return normalised(space, pull(push(carry[0])))[0], moved

    first, norm = normalised(space, start)
    return lax.fori_loop(0, n_iters, alternate, (first, jnp.zeros_like(norm)))[1]


class Power(NamedTuple):
    """Of a power iteration, per sample: `growth`, the rate at which `||J^k v||` grew;
    `rayleigh`, `|v^T J v|` for the last v but one; `vector`, the last v, of length 1 or 0."""

    growth: Array
    rayleigh: Array
    vector: PyTree


def power_iteration(space: Space, push: Apply, start: PyTree, n_iters: int) -> Power:
    """`v <- J v / ||J v||`, `n_iters` times; NaN for samples whose products are not finite.

    The rate is the least-squares slope of `log ||J^k v||` over the second half of the iterations:
    with complex leading eigenvalues that norm oscillates about a straight line.
    """
    k = np.arange(n_iters) - n_iters // 2
    weights = np.where(k >= 0, (k + 1) * (k[-1] + 1 - k), 0.0)

    def step(carry: Power, weight: Array) -> tuple[Power, None]:
        moved = push(carry.vector)
        following, norm = normalised(space, moved)
        log = jnp.where(weight > 0, weight * jnp.log(norm), 0)
        slope = jnp.where(jnp.isfinite(norm), carry.growth + log, jnp.nan)
        rayleigh = jnp.abs(space.dot(carry.vector, moved))
        return Power(slope, rayleigh, following), None

    first, norm = normalised(space, start)
    zero = jnp.zeros_like(norm)
    weights = jnp.asarray(weights / weights.sum(), norm.dtype)
    end, _ = lax.scan(step, Power(zero, zero, first), weights)
    rayleigh = jnp.where(jnp.isnan(end.growth), jnp.nan, end.rayleigh)
    return Power(jnp.exp(end.growth), rayleigh, end.vector)


def arnoldi(space: Space, push: Apply, start: PyTree, steps: int) -> Array:
    """The Hessenberg matrix H of `J V = V_+ H`, `(*batch, steps + 1, steps)`.

    The columns of V are an orthonormal basis of the Krylov space of J and `start`; each is
    orthogonalised twice. Where that space is exhausted early the rest of H is 0.
    """
    first, norm = normalised(space, start)
    basis = space.write(space.history(first, steps + 1), jnp.zeros((), jnp.int32), first)
    zero = jnp.zeros_like(norm)
    matrix = jnp.broadcast_to(zero[..., None, None], (*zero.shape, steps + 1, steps))
    eps = max(float(jnp.finfo(x.dtype).eps) for x in jax.tree.leaves(start))

    def extend(j, carry):
        basis, matrix = carry
        axis = space.batch_dims
        last = jax.tree.map(lambda h: pick(h, j, axis), basis)
        image = push(last)
        length = space.norm(image)
        column = jnp.zeros_like(matrix[..., 0])
        for _ in range(2):
            weights = space.dots(basis, image)
            image = space.sub(image, space.combine(basis, weights))
            column = column + weights
        following, norm = normalised(space, image)
        more = norm > 10 * eps * length
        following = space.where(more, following, jax.tree.map(jnp.zeros_like, following))
        slot = lax.broadcasted_iota(jnp.int32, column.shape, column.ndim - 1)
        norm = jnp.where(more, norm, 0)
        column = jnp.where(slot == j + 1, norm[..., None], column)
        matrix = put(matrix, column, j, matrix.ndim - 1)
        return space.write(basis, j + 1, following), matrix

    return lax.fori_loop(0, steps, extend, (basis, matrix))[1]


def ritz_values(hessenberg: np.ndarray) -> tuple[np.ndarray, float]:
    """Of one sample's `(steps + 1, steps)` matrix H: eigenvalue estimates of J, and an upper
    bound of the smallest singular value of `I - J`, the least `||(I - J) x||` in the Krylov space.

    Both are exact once the space is all of the sample's space.
    """
    if not np.all(np.isfinite(hessenberg)):
        return np.array([np.nan]), float("nan")
    steps = hessenberg.shape[1]
    ended = np.flatnonzero(np.diagonal(hessenberg, -1) == 0)
    size = int(ended[0]) + 1 if ended.size else steps
    kept = hessenberg[: size + 1, :size].astype(np.float64)
    difference = np.eye(size + 1, size) - kept
    return np.linalg.eigvals(kept[:size]), float(np.linalg.svd(difference, compute_uv=False)[-1])
