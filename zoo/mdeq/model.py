"""Multiscale deep equilibrium image classifier, NHWC (Bai, Koltun, Kolter, NeurIPS 2020)."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

import jdeq
from zoo.mdeq.config import MDEQConfig
from zoo.mdeq.full_stage import FullStage, State
from zoo.mdeq.layers import Bottleneck, ConvBN
from zoo.nn.initializers import torch_uniform


class MDEQ(nnx.Module):
    """Stem -> injection -> equilibrium of `FullStage` at all scales -> head.

    The state is a tuple of feature maps, one per branch, and is never concatenated.
    Batch norms stand in stem and head only; the kernels of the equilibrium function are
    normalised once per call as `deq.norm_type` says.

    Args:
        config: sizes.
        deq: solver, gradient and normalisation of the equilibrium.
        rngs: `params` draws the initial weights.
        param_dtype: dtype of all parameters and statistics.
    """

    def __init__(
        self,
        config: MDEQConfig,
        deq: jdeq.DEQConfig,
        *,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ):
        options = {"rngs": rngs, "param_dtype": param_dtype}
        c, h, n = config.channels, config.head_channels, config.n_branches
        stride = [2 if config.downsample_times > k else 1 for k in range(2)]
        self.config = config
        self.stem = nnx.List(
            [
                ConvBN(config.in_channels, c[0], 3, stride=stride[0], **options),
                ConvBN(c[0], c[0], 3, stride=stride[1], **options),
            ]
        )
        self.stage0 = ConvBN(c[0], c[0], 1, **options) if config.has_stage0 else None
        self.full_stage = jdeq.nn.DEQ(FullStage(config, **options), config=deq)
        self.incre_modules = nnx.List(Bottleneck(c[i], h[i], **options) for i in range(n))
        self.downsamp_modules = nnx.List(
            ConvBN(4 * h[i], 4 * h[i + 1], 3, stride=2, use_bias=True, **options)
            for i in range(n - 1)
        )
        self.final_layer = ConvBN(4 * h[-1], config.final_channels, 1, use_bias=True, **options)
        self.classifier = nnx.Linear(
            config.final_channels, config.n_classes, kernel_init=torch_uniform, **options
        )
        bound = config.final_channels**-0.5
        self.classifier.bias = nnx.Param(
            jax.random.uniform(rngs.params(), (config.n_classes,), param_dtype, -bound, bound)
        )

    def __call__(self, x: Array, *, key: Array | None = None) -> tuple[Array, jdeq.SolverInfo]:
        """Images (B, H, W, in_channels) -> logits (B, n_classes) and the solve's statistics."""
        z_star, info = self.full_stage(self.encode(x), key=key)
        return self.decode(z_star), info

    def encode(self, x: Array) -> State:
        """Images (B, H, W, in_channels) -> injections; only the first branch's is not zero.

        Raises:
            ValueError: the image's sides or channels do not fit the model.
        """
        batch, height, width, in_channels = x.shape
        self.config.check_image(height, width)
        if in_channels != self.config.in_channels:
            raise ValueError(
                f"images have {in_channels} channels, the model takes {self.config.in_channels}"
            )
        for unit in self.stem:
            x = jax.nn.relu(unit(x))
        if self.stage0 is not None:
            x = jax.nn.relu(self.stage0(x))
        _, height, width, _ = x.shape
        coarser = (
            jnp.zeros((batch, height >> i, width >> i, c), x.dtype)
            for i, c in enumerate(self.config.channels[1:], start=1)
        )
        return (x, *coarser)

    def decode(self, z: State) -> Array:
        """State -> logits (B, n_classes)."""
        y = self.incre_modules[0](z[0])
        for zi, increase, down in zip(
            z[1:], list(self.incre_modules)[1:], self.downsamp_modules, strict=True
        ):
            y = increase(zi) + jax.nn.relu(down(y))
        y = jax.nn.relu(self.final_layer(y))
        return self.classifier(jnp.mean(y, axis=(1, 2)))
