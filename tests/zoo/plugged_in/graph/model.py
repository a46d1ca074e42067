"""Z = tanh(A Z W + X U), and labels by Z."""

import dataclasses

import jax.numpy as jnp
from flax import nnx
from jax import Array

import jdeq
from jdeq.options import from_data, option
from zoo.settings import ModelConfig


@dataclasses.dataclass(frozen=True)
class GraphConfig(ModelConfig):
    """Sizes of the model."""

    width: int = option(8, "of a node's state", low=1)
    n_features: int = from_data(4)
    n_labels: int = from_data(3)


class Neighbours(nnx.Module):
    """The equilibrium function; its input is X U (1, N, D) and the edges (1, 2, E)."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.mix = nnx.Linear(width, width, use_bias=False, rngs=rngs)

    def __call__(self, z: Array, given: tuple[Array, Array]) -> Array:
        """z (1, N, D) -> same shape: the mean over the neighbours, mixed."""
        x, edges = given
        source, target = edges[0]
        n = z.shape[1]
        degree = jnp.zeros(n).at[target].add(1.0)
        mean = jnp.zeros_like(z).at[:, target].add(z[:, source])
        mean = mean / jnp.maximum(degree, 1.0).reshape(1, n, 1)
        return jnp.tanh(0.5 * self.mix(mean) + x)

    def initial_state(self, given: tuple[Array, Array], key: Array | None = None) -> Array:
        """Zeros."""
        del key
        return jnp.zeros_like(given[0])


class GraphModel(nnx.Module):
    """One equilibrium for all nodes of a graph."""

    def __init__(self, config: GraphConfig, deq: jdeq.DEQConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.encode = nnx.Linear(config.n_features, config.width, rngs=rngs)
        self.equilibrium = jdeq.nn.DEQ(Neighbours(config.width, rngs=rngs), config=deq)
        self.decode = nnx.Linear(config.width, config.n_labels, rngs=rngs)

    def __call__(
        self, features: Array, edges: Array, *, key: Array | None = None
    ) -> tuple[Array, jdeq.SolverInfo]:
        """Features (N, F) and edges (2, E) -> logits (N, L) and the solve's statistics."""
        z, info = self.equilibrium((self.encode(features)[None], edges[None]), key=key)
        return self.decode(z[0]), info
