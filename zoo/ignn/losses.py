"""What is said of nodes or graphs, held against what is true."""

import jax.numpy as jnp
import optax
from jax import Array

from zoo.precision import wide


def losses(logits: Array, y: Array) -> Array:
    """Of each node or graph: logits (B, N, C) -> (B, N).

    Cross entropy with the class y (B, N), where an unknown one, -1, counts as the first; or, with
    0/1 labels y (B, N, C), the mean of their binary cross entropies.
    """
    logits = wide(logits)
    if y.ndim == logits.ndim:
        return optax.sigmoid_binary_cross_entropy(logits, y.astype(logits.dtype)).mean(-1)
    return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(y, 0))


def masked_mean(values: Array, mask: Array) -> Array:
    """The mean of `values` (B, N, ...), per node, over those of weight 1; 0 if there are none."""
    mask = mask.astype(values.dtype)
    weights = jnp.expand_dims(mask, tuple(range(mask.ndim, values.ndim)))
    kept = jnp.where(weights > 0, values, 0) * weights
    return jnp.sum(kept, (0, 1)) / jnp.maximum(jnp.sum(mask), 1)
