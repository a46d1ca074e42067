"""Batch normalisation whose running statistics follow PyTorch's."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from zoo.precision import wide


class BatchNorm(nnx.Module):
    """Normalises the last axis; running variance is *unbiased*, as in PyTorch.

    Training normalises with the batch's biased variance, and moves the running statistics
    towards its mean and its n/(n-1) corrected variance (`nnx.BatchNorm` keeps the biased one).
    `model.train()` and `model.eval()` switch between batch and running statistics.

    Args:
        features: size C of the last axis.
        affine: learn a scale and a bias, each (C,).
        momentum: share of the old running statistic that is kept (PyTorch's 1 - momentum).
        epsilon: added to the variance.
        param_dtype: dtype of parameters and statistics.
    """

    def __init__(
        self,
        features: int,
        *,
        affine: bool = True,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
    ):
        self.scale = nnx.Param(jnp.ones((features,), param_dtype)) if affine else None
        self.bias = nnx.Param(jnp.zeros((features,), param_dtype)) if affine else None
        self.mean = nnx.BatchStat(jnp.zeros((features,), param_dtype))
        self.var = nnx.BatchStat(jnp.ones((features,), param_dtype))
        self.momentum = momentum
        self.epsilon = epsilon
        self.use_running_average = False

    def __call__(self, x: Array) -> Array:
        """x (..., C) -> same shape; in training mode the running statistics are updated.

        Computed in float32 at least, returned in the dtype of x.
        """
        dtype, x = x.dtype, wide(x)
        if self.use_running_average:
            mean, var = self.mean[...], self.var[...]
        else:
            mean, var = self._batch_statistics(x)
        last = lambda a: a.reshape((1,) * (x.ndim - 1) + (-1,))
        y = (x - last(mean)) * last(jax.lax.rsqrt(var + self.epsilon))
        if self.scale is not None and self.bias is not None:
            y = y * last(wide(self.scale[...])) + last(wide(self.bias[...]))
        return y.astype(dtype)

    def _batch_statistics(self, x: Array) -> tuple[Array, Array]:
        axes = tuple(range(x.ndim - 1))
        mean = jnp.mean(x, axes)
        var = jnp.mean(jnp.square(x - jnp.mean(x, axes, keepdims=True)), axes)
        n = x.size // x.shape[-1]
        unbiased = var * (n / max(n - 1, 1))
        keep = self.momentum
        self.mean[...] = keep * self.mean[...] + (1 - keep) * jax.lax.stop_gradient(mean)
        self.var[...] = keep * self.var[...] + (1 - keep) * jax.lax.stop_gradient(unbiased)
        return mean, var
