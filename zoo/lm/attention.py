"""Multi-head attention over memory and segment, with relative positions and injection."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

import jdeq
from zoo.devices.axes import named, named_layer
from zoo.lm.config import LMConfig
from zoo.lm.layers import kernel_init, layer_norm
from zoo.lm.positions import relative_shift


def _head_bias(key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    return jax.random.uniform(key, shape, dtype, -0.05, 0.05)


class Attention(nnx.Module):
    """Attention of Transformer-XL (Dai et al., 2019), with the injection added to q, k and v.

    Names of the layers are those of the PyTorch original.

    Args:
        config: sizes.
        rngs: `params` draws the initial weights, `dropout` the first masks.
        param_dtype: dtype of the parameters.
    """

    def __init__(self, config: LMConfig, *, rngs: nnx.Rngs, param_dtype: DTypeLike = jnp.float32):
        d, heads = config.d_model, config.n_head
        options = {
            "kernel_init": kernel_init(config),
            "param_dtype": param_dtype,
            "rngs": rngs,
        }
        inwards = options | named_layer("embed", "heads")
        self.qkv_net = nnx.Linear(d, 3 * d, use_bias=False, **inwards)
        self.r_net = nnx.Linear(d, d, use_bias=False, **inwards)
        self.o_net = nnx.Linear(d, d, **named_layer("heads", "embed"), **options)
        shape, names = (heads, d // heads), named("heads", "width")
        self.r_w_bias = nnx.Param(_head_bias(rngs.params(), shape, param_dtype), **names)
        self.r_r_bias = nnx.Param(_head_bias(rngs.params(), shape, param_dtype), **names)
        norm = layer_norm(config, rngs=rngs, param_dtype=param_dtype)
        self.ln2 = norm if config.traits.heads_norm else None
        self.dropatt = jdeq.nn.VariationalDropout(config.dropatt, rngs=rngs)
        self.drop = jdeq.nn.VariationalDropout1d(config.dropout, rngs=rngs)
        self.heads = heads
        self.packed_by_head = config.traits.packed_by_head

    def __call__(self, y: Array, y_memory: Array, u: Array, encodings: Array, mask: Array) -> Array:
        """What the segment's tokens gather from all positions.

        Args:
            y: (B, L, D) segment.
            y_memory: (B, M, D).
            u: (B, M + L, 3 D) injections.
            encodings: (1, M + L, D) of the distances M + L - 1, ..., 0.
            mask: (B, L, M + L) bool, true where a query may look.

        Returns:
            (B, L, D).
        """
        batch, length, d = y.shape
        # separately, since the memory's part does not change in the solver's loop
        qkv = jnp.concatenate([self.qkv_net(y_memory), self.qkv_net(y)], axis=1) + u
        q, k, v = self._split(qkv)
        q, r = q[:, -length:], self.r_net(encodings).reshape(-1, self.heads, d // self.heads)
        content = jnp.einsum("bihd,bjhd->bhij", q + self.r_w_bias[...][None, None], k)
        position = jnp.einsum("bihd,jhd->bhij", q + self.r_r_bias[...][None, None], r)
        scores = (content + relative_shift(position)) * (d // self.heads) ** -0.5
        scores = jnp.where(mask[:, None], scores, -jnp.inf)
        weights = self.dropatt(jax.nn.softmax(scores, axis=-1))
        heads = jnp.einsum("bhij,bjhd->bihd", weights, v).reshape(batch, length, d)
        return self.drop(self.o_net(heads if self.ln2 is None else self.ln2(heads)))

    def _split(self, qkv: Array) -> tuple[Array, Array, Array]:
        """(B, K, 3 D) -> queries, keys, values, each (B, K, H, D / H)."""
        batch, keys, features = qkv.shape
        width = features // (3 * self.heads)
        if self.packed_by_head:
            parts = jnp.moveaxis(qkv.reshape(batch, keys, self.heads, 3, width), 3, 0)
        else:
            parts = jnp.moveaxis(qkv.reshape(batch, keys, 3, self.heads, width), 2, 0)
        return parts[0], parts[1], parts[2]
