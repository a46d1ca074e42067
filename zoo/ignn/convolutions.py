"""Graph convolutions: the explicit layers that an equilibrium is compared with."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.nn import initializers
from jax.typing import DTypeLike

from zoo.ignn.config import IGNNConfig
from zoo.ignn.layer import RHO_EPS
from zoo.ignn.matrix import Matrix
from zoo.ignn.propagation import Edges


class Convolution(nnx.Module):
    """`relu(A^T x K + c)`."""

    def __init__(self, in_features: int, features: int, *, rngs: nnx.Rngs, param_dtype: DTypeLike):
        draw = initializers.glorot_uniform()
        self.linear = Matrix(draw(rngs.params(), (in_features, features), param_dtype))
        self.bias = nnx.Param(jnp.zeros((features,), param_dtype))

    def __call__(self, x: Array, edges: Edges) -> Array:
        """x (B, N, p) -> (B, N, m)."""
        bias = jnp.expand_dims(self.bias[...], (0, 1))
        return jax.nn.relu(edges.propagate(self.linear(x)) + bias)


class Convolutions(nnx.Module):
    """`explicit` convolutions one after the other, in the place and of the width of one layer.

    A graph whose A is not normalised already is divided by its spectral radius.

    Args:
        in_features, features: p and m.
        config: of the model.
        rngs: `params` draws the initial weights.
        param_dtype: of the parameters.

    Source: Kipf & Welling, *Semi-Supervised Classification with Graph Convolutional Networks*
    (2017).
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        config: IGNNConfig,
        *,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ):
        widths = (in_features,) + (features,) * (config.explicit - 1)
        self.config = config
        self.steps = nnx.List(
            Convolution(width, features, rngs=rngs, param_dtype=param_dtype) for width in widths
        )

    def __call__(self, x: Array, edges: Edges) -> Array:
        """x (B, N, p) -> (B, N, m)."""
        if self.config.measures:
            scaled = edges.weights / (edges.rho[:, None] + RHO_EPS)
            edges = edges._replace(weights=scaled)
        for step in self.steps:
            x = step(x, edges)
        return x
