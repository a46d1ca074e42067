"""Euclidean projection onto the L1 ball."""

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike


def project_l1(w: Array, radius: ArrayLike, *, axis: int = -1) -> Array:
    """The nearest vectors, in 2-norm, whose absolute values sum to `radius` at most.

    A vector outside the ball is shrunk to `sign(w) max(|w| - alpha, 0)`, of the one `alpha` for
    which the sum is `radius`, exactly: the entries that stay are the largest ones, and how many is
    found by sorting. A vector inside stays as it is, to the bit. Differentiable in `w` and
    `radius` wherever the projection is.

    Args:
        w: vectors along one axis.
        radius: of the ball, at least 0; an array has w's axes, some of which may be 1.
        axis: along which the vectors lie.

    Returns:
        Of the shape and dtype of `w`, unless `radius` has more rows than it.

    Source: Duchi et al., *Efficient Projections onto the l1-Ball* (2008).

    Example:
        >>> project_l1(jnp.array([[3.0, -1.0], [0.5, 0.25]]), 1.0).tolist()
        [[1.0, 0.0], [0.5, 0.25]]
    """
    n, axis = w.shape[axis], axis % w.ndim
    radius = jnp.asarray(radius, w.dtype)
    rank = jnp.arange(1, n + 1, dtype=w.dtype).reshape(
        [-1 if i == axis else 1 for i in range(w.ndim)]
    )
    size = jnp.abs(w)
    # how far below the largest: so nothing cancels, however much larger than the ball w is
    below = lax.stop_gradient(jnp.max(size, axis, keepdims=True)) - size
    rising = jnp.sort(below, axis)
    sums = radius + jnp.cumsum(rising, axis)
    count = jnp.sum(rising * rank < sums, axis, keepdims=True)
    count = jnp.maximum(count, 1)  # of radius 0, none stays
    left = jnp.take_along_axis(sums, count - 1, axis) / count.astype(w.dtype)
    shrunk = jnp.sign(w) * jnp.maximum(left - below, 0)
    inside = jnp.sum(size, axis, keepdims=True) <= radius
    return jnp.where(inside, w, shrunk)
