"""The operations in JAX; images NHWC."""

import jax
import jax.numpy as jnp
from jax import lax

from zoo.nn.convolution import conv_general_dilated

from .function import Graph

CHANNELS = -1
tanh, concat, relu, gelu, softmax = (
    jnp.tanh,
    jnp.concatenate,
    jax.nn.relu,
    jax.nn.gelu,
    jax.nn.softmax,
)


def layer_norm(x):
    return jax.nn.standardize(x, epsilon=1e-5)


def conv(x, kernel):
    spec = lax.conv_dimension_numbers(x.shape, kernel.shape, ("NHWC", "HWIO", "NHWC"))
    return conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=spec)


def propagate(graph: Graph, z):
    moved = z[0, graph.cols] * graph.values[:, None]
    sums = jnp.zeros_like(z[0]).at[graph.rows]
    return sums.add(moved, indices_are_sorted=True, mode="promise_in_bounds")[None]
