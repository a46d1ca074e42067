"""Feed-forward part, layer norms and initial weights of the blocks."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.nn import initializers
from jax.typing import DTypeLike

import jdeq
from zoo.devices.axes import named_layer
from zoo.lm.config import LMConfig
from zoo.nn.initializers import small_normal, torch_uniform


def kernel_init(config: LMConfig) -> initializers.Initializer:
    """Of the blocks' kernels: N(0, 0.01^2), or PyTorch's default.

    The original of "deq_seq" means to draw the former, but puts the weight norm on before it, which
    makes a weight from g and v again: what it trains from is the default.
    """
    return torch_uniform if config.fan_in or config.design == "deq_seq" else small_normal


def projection_init(config: LMConfig) -> initializers.Initializer:
    """Of kernels (inputs, outputs) that keep a unit scale, or N(0, 0.01^2)."""
    return initializers.lecun_normal() if config.fan_in else small_normal


def vector_init(config: LMConfig) -> initializers.Initializer:
    """Of word vectors, which are multiplied by the square root of the width, or N(0, 0.01^2)."""
    return initializers.normal(config.d_model**-0.5) if config.fan_in else small_normal


def layer_norm(
    config: LMConfig, *, rngs: nnx.Rngs, param_dtype: DTypeLike = jnp.float32
) -> nnx.LayerNorm:
    """Over the features, with PyTorch's epsilon; affine with scales around 1 in "deq_lm"."""
    return nnx.LayerNorm(
        config.d_model,
        epsilon=1e-5,
        use_scale=config.traits.affine_norms,
        use_bias=config.traits.affine_norms,
        scale_init=lambda *args: 1 + small_normal(*args),
        use_fast_variance=False,
        param_dtype=param_dtype,
        rngs=rngs,
    )


class FeedForward(nnx.Module):
    """Two layers with a ReLU and dropout in between, applied to each position.

    Args:
        config: sizes.
        rngs: `params` draws the initial weights, `dropout` the first masks.
        param_dtype: dtype of the parameters.
    """

    def __init__(self, config: LMConfig, *, rngs: nnx.Rngs, param_dtype: DTypeLike = jnp.float32):
        options = {"kernel_init": kernel_init(config), "param_dtype": param_dtype, "rngs": rngs}
        d, inner = config.d_model, config.d_inner
        self.ff1_net = nnx.Linear(d, inner, **named_layer("embed", "hidden"), **options)
        self.ff2_net = nnx.Linear(inner, d, **named_layer("hidden", "embed"), **options)
        self.drop1 = jdeq.nn.VariationalDropout1d(config.dropout, rngs=rngs)
        self.drop2 = jdeq.nn.VariationalDropout1d(config.dropout, rngs=rngs)

    def __call__(self, y: Array) -> Array:
        """y (B, L, D) -> same shape."""
        return self.drop2(self.ff2_net(self.drop1(jax.nn.relu(self.ff1_net(y)))))
