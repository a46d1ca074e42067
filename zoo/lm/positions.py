"""Relative positions: sinusoidal encodings, the shift that aligns them, and who sees whom."""

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from zoo.nn.buffer import Buffer


class Positions(nnx.Module):
    """Sines, then cosines, of a distance at D / 2 frequencies (Vaswani et al., 2017)."""

    def __init__(self, d_model: int, *, param_dtype: DTypeLike = jnp.float32):
        inverse = 1 / 10000 ** (np.arange(0, d_model, 2) / d_model)
        self.inv_freq = Buffer(jnp.asarray(inverse, param_dtype))

    def __call__(self, length: int) -> Array:
        """Encodings (1, length, D) of the distances length - 1, ..., 1, 0."""
        frequencies = self.inv_freq[...]
        distance = jnp.arange(length - 1, -1, -1, dtype=frequencies.dtype)
        angles = jnp.outer(distance, frequencies)
        return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)[None]


def relative_shift(scores: Array) -> Array:
    """(..., L, K) scores of queries with encodings -> scores of queries with keys.

    Column j of the input belongs to distance K - 1 - j. Row i moves left by L - 1 - i, so that
    key j <= K - L + i gets the distance K - L + i - j; what comes in on the right lies in the
    future and must be masked. Source: Dai et al., *Transformer-XL* (2019), appendix B.
    """
    *batch, length, keys = scores.shape
    padded = jnp.pad(scores, [(0, 0)] * len(batch) + [(0, 0), (1, 0)])
    return padded.reshape(*batch, keys + 1, length)[..., 1:, :].reshape(scores.shape)


def visible(length: int, filled: Array, memory: int, horizon: int) -> Array:
    """Which of the `memory` + `length` keys each of the `length` queries may look at.

    Not the future, nothing `horizon` or more positions back, no unfilled memory.

    Args:
        filled: (B,) how many positions of the memory count, the last ones.

    Returns:
        (B, length, memory + length) bool.
    """
    query = memory + jnp.arange(length)[:, None]
    key = jnp.arange(memory + length)[None, :]
    near = (key <= query) & (query - key < horizon)
    known = key[None] >= memory - filled[:, None, None]
    return near[None] & known
