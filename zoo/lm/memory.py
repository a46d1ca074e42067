"""What a language model keeps of the segments before."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from zoo.lm.config import LMConfig


class Memory(NamedTuple):
    """Equilibrium and injection of the last M positions, the most recent one last.

    The buffers have a fixed length, so that one compilation serves all segments. Only the last
    `filled` positions of a row count; zeros everywhere mean that nothing is remembered, and give
    the numbers that M = 0 gives. Its length is the buffers' own: weights that were trained with
    one `mem_len` work with any other.

    Attributes:
        z: (B, M, D).
        u: (B, M, 3 D).
        filled: (B,) int32, at most M.
    """

    z: Array
    u: Array
    filled: Array

    @classmethod
    def empty(
        cls, config: LMConfig, batch: int, length: int, dtype: DTypeLike = jnp.float32
    ) -> "Memory":
        """Room for `length` positions of `batch` rows, nothing in it."""
        d = config.d_model
        z, u = (jnp.zeros((batch, length, width), dtype) for width in (d, 3 * d))
        return cls(z, u, jnp.zeros((batch,), jnp.int32))

    def extended(self, z: Array, u_all: Array) -> "Memory":
        """After a segment with equilibrium `z` (B, L, D); no gradient flows into it.

        `u_all` (B, M + L, 3 D) are the injections of the memory and of the segment.
        """
        length = z.shape[1]
        z_all = jnp.concatenate([self.z, z], axis=1)
        filled = jnp.minimum(self.filled + length, self.z.shape[1])
        return lax.stop_gradient(Memory(z_all[:, length:], u_all[:, length:], filled))
