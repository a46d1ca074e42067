"""What a linear map, known by its products only, does to each sample's vectors."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from .._space import PyTree, Space

Apply = Callable[[PyTree], PyTree]


def random_like(key: Array, z: PyTree) -> PyTree:
    """Standard normal leaves of the shapes and dtypes of `z`."""
    leaves, treedef = jax.tree.flatten(z)
    keys = jax.random.split(key, len(leaves))
    draws = [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(treedef, draws)


def unit(space: Space, x: PyTree) -> tuple[PyTree, Array]:
    """`x / ||x||` per sample, 0 where that is meaningless, and `||x||`."""
    norm = space.norm(x)
    good = jnp.isfinite(norm) & (norm > 0)
    return space.scale(x, jnp.where(good, 1 / jnp.where(good, norm, 1), 0)), norm


def largest_singular_value(
    space: Space, push: Apply, pull: Apply, start: PyTree, n_iters: int
) -> Array:
    """`||J||_2` per sample, from below: products with J and J^T in turn, `n_iters` of each."""

    def alternate(_, carry):
        _, moved = unit(space, push(carry[0]))
        return unit(space, pull(push(carry[0])))[0], moved

    first, norm = unit(space, start)
    return lax.fori_loop(0, n_iters, alternate, (first, jnp.zeros_like(norm)))[1]


def arnoldi(space: Space, push: Apply, start: PyTree, steps: int) -> Array:
    """The Hessenberg matrix H of `J V = V_+ H`, `(*batch, steps + 1, steps)`.

    The columns of V are an orthonormal basis of the Krylov space of J and `start`; each is
    orthogonalised twice. Where that space is exhausted early the rest of H is 0.
    """
    first, norm = unit(space, start)
    basis = space.write(space.history(first, steps + 1), jnp.zeros((), jnp.int32), first)
    zero = jnp.zeros_like(norm)
    matrix = jnp.broadcast_to(zero[..., None, None], (*zero.shape, steps + 1, steps))
    eps = max(float(jnp.finfo(x.dtype).eps) for x in jax.tree.leaves(start))

    def extend(j, carry):
        basis, matrix = carry
        axis = space.batch_dims
        last = jax.tree.map(lambda h: lax.dynamic_index_in_dim(h, j, axis, keepdims=False), basis)
        image = push(last)
        length = space.norm(image)
        column = jnp.zeros_like(matrix[..., 0])
        for _ in range(2):
            weights = space.dots(basis, image)
            image = space.sub(image, space.combine(basis, weights))
            column = column + weights
        following, norm = unit(space, image)
        more = norm > 10 * eps * length
        following = space.where(more, following, jax.tree.map(jnp.zeros_like, following))
        slot = lax.broadcasted_iota(jnp.int32, column.shape, column.ndim - 1)
        norm = jnp.where(more, norm, 0)
        column = jnp.where(slot == j + 1, norm[..., None], column)
        matrix = lax.dynamic_update_index_in_dim(matrix, column, j, matrix.ndim - 1)
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
