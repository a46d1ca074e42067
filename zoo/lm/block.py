"""The equilibrium function: transformer blocks that all see the same memory and injection."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from zoo.lm.attention import Attention
from zoo.lm.config import LMConfig
from zoo.lm.layers import FeedForward, layer_norm


class Context(NamedTuple):
    """What stays the same during a solve.

    Attributes:
        z_memory: (B, M, D) equilibrium of earlier tokens.
        u: (B, M + L, 3 D) injections, those of the memory first.
        encodings: (1, M + L, D) of the distances M + L - 1, ..., 0.
        mask: (B, L, M + L) bool, true where a query may look.
    """

    z_memory: Array
    u: Array
    encodings: Array
    mask: Array


class Block(nnx.Module):
    """Attention, then feed-forward, each around a residual connection.

    Args:
        config: sizes; `pre_norm` says on which side of them the layer norms are.
        rngs: `params` draws the initial weights, `dropout` the first masks.
        param_dtype: dtype of the parameters.
    """

    def __init__(self, config: LMConfig, *, rngs: nnx.Rngs, param_dtype: DTypeLike = jnp.float32):
        options = {"rngs": rngs, "param_dtype": param_dtype}
        self.ln1 = layer_norm(config, **options)
        self.attention = Attention(config, **options)
        self.ln = layer_norm(config, **options)
        self.feed_forward = FeedForward(config, **options)
        self.pre_norm = config.pre_norm
        self.remat = config.remat

    def __call__(self, z: Array, context: Context) -> Array:
        """z (B, L, D) -> same shape."""
        attend, feed = self.attend, self.feed
        if self.remat:
            attend, feed = jax.checkpoint(attend), jax.checkpoint(feed)
        return feed(attend(z, context))

    def attend(self, z: Array, context: Context) -> Array:
        """z (B, L, D) after the attention part."""
        z_memory, *rest = context
        if self.pre_norm:
            return z + self.attention(self.ln1(z), self.ln1(z_memory), *rest)
        return self.ln1(z + self.attention(z, z_memory, *rest))

    def feed(self, z: Array) -> Array:
        """z (B, L, D) after the feed-forward part."""
        if self.pre_norm:
            return z + self.feed_forward(self.ln(z))
        return self.ln(z + self.feed_forward(z))


class Blocks(nnx.Module):
    """f(z): all blocks in turn.

    Pre-norm blocks see no difference between z and z plus a constant per token, and hand the
    constant on, f(z + c) = f(z) + c: the Jacobian has the eigenvalue 1, and the mean over features
    drifts without end. With `zero_mean` f takes this mean out, which makes the eigenvalue 0 and
    changes nothing else: started at 0, these are the states that output projections of zero mean
    would give.
    """

    def __init__(self, config: LMConfig, *, rngs: nnx.Rngs, param_dtype: DTypeLike = jnp.float32):
        self.blocks = nnx.List(
            Block(config, rngs=rngs, param_dtype=param_dtype) for _ in range(config.n_layer)
        )
        self.zero_mean = config.zero_mean

    def __call__(self, z: Array, context: Context) -> Array:
        """z (B, L, D) -> same shape."""
        for block in self.blocks:
            z = block(z, context)
        return z - jnp.mean(z, axis=-1, keepdims=True) if self.zero_mean else z

    def initial_state(self, context: Context, key: Array | None = None) -> Array:
        """Zeros (B, L, D); `key` is not used."""
        del key
        memory = context.z_memory
        batch, length, _ = context.mask.shape
        return jnp.zeros((batch, length, memory.shape[-1]), context.u.dtype)
