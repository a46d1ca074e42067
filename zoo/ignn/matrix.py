"""Linear maps of features."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.nn import initializers
from jax.typing import DTypeLike

from zoo.nn.initializers import torch_uniform


class Matrix(nnx.Module):
    """A kernel (p, m) and nothing else: `x -> x K`, also of features that are not written down.

    Args:
        kernel: the initial one.
    """

    def __init__(self, kernel: Array):
        self.kernel = nnx.Param(kernel)

    def __call__(self, x: Array) -> Array:
        """x (B, N, p) -> (B, N, m).

        x (B, N, 0) stands for the identity: node i has the i-th unit vector for features, and one
        beyond the p-th has none.
        """
        kernel = self.kernel[...]
        batch, nodes, entries = x.shape
        if entries:
            return x @ kernel
        rows = kernel[:nodes]
        rows = jnp.pad(rows, ((0, nodes - len(rows)), (0, 0)))
        return jnp.broadcast_to(rows, (batch, *rows.shape))


def torch_linear(
    n_in: int, n_out: int, *, use_bias: bool = True, rngs: nnx.Rngs, param_dtype: DTypeLike
) -> nnx.Linear:
    """A linear layer with PyTorch's initial weights and bias, from U(-1/sqrt(n), 1/sqrt(n))."""
    bound = n_in**-0.5

    def bias_init(key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return nnx.Linear(
        n_in,
        n_out,
        use_bias=use_bias,
        kernel_init=torch_uniform,
        bias_init=bias_init if use_bias else initializers.zeros,
        rngs=rngs,
        param_dtype=param_dtype,
    )
