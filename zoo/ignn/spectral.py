"""The spectral norm as the original has it."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array

import jdeq
from zoo.nn.buffer import Buffer


class SingularVector(jdeq.nn.PowerIteration, Buffer):
    """A vector of the power iteration, which belongs to a model's state dict."""


class RowSpectralNorm(jdeq.nn.SpectralNorm):
    """`jdeq.nn.SpectralNorm` with a scale for each row, and vectors that may come from elsewhere.

    Vectors that no step has been made with, as in the state dict of an untrained original, may
    measure a `sigma = u^T M v` below 0. The factor is `min(clip, g / sigma)` there too.

    Args:
        module: the module; its kernels are those of modules right below it.
        learn_scale: learn the scales.
        **options: as in `jdeq.nn.SpectralNorm`.
    """

    def __init__(self, module: nnx.Module, *, learn_scale: bool = True, **options: Any):
        super().__init__(module, learn_scale=learn_scale, per_channel=learn_scale, **options)
        for path in self.paths:
            pair = self.vectors[path]["kernel"]
            for name in pair:
                pair[name] = SingularVector(pair[name][...])

    def normalise(self, kernels: Mapping[str, Array]) -> Mapping[str, Array]:
        """(-g) / (-sigma) is the same, and `jdeq.norm` takes what is below 0 for a kernel of 0."""
        vectors, scales = {}, {}
        for path, kernel in kernels.items():
            u, v = (self.vectors[path]["kernel"][name][...] for name in "uv")
            sign = jnp.where(jnp.sum(kernel.astype(u.dtype) * u * v) < 0, -1, 1).astype(u.dtype)
            g = self.scales[path]["kernel"][...] if len(self.scales) else self.target_norm
            vectors[path], scales[path] = (
                jdeq.norm.PowerVectors(sign * u, v),
                sign * jnp.asarray(g, u.dtype),
            )
        clip, eps = self.clip, self.eps
        return jdeq.norm.spectral_norm(
            kernels, vectors, scales, n_power_iterations=0, clip=clip, eps=eps
        )[0]
