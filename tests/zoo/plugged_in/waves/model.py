"""z = sin(W z + U t), and a value by z."""

import dataclasses

import jax.numpy as jnp
from flax import nnx
from jax import Array

import jdeq
from jdeq.options import option
from zoo.settings import ModelConfig


@dataclasses.dataclass(frozen=True)
class WavesConfig(ModelConfig):
    """Sizes of the model."""

    width: int = option(16, "of the state", low=1)


class Waves(nnx.Module):
    """A signal as a function of time."""

    def __init__(self, config: WavesConfig, deq: jdeq.DEQConfig, *, rngs: nnx.Rngs):
        self.encode = nnx.Linear(
            1, config.width, kernel_init=nnx.initializers.normal(6.0), rngs=rngs
        )
        cell = nnx.Linear(config.width, config.width, use_bias=False, rngs=rngs)
        self.equilibrium = jdeq.nn.DEQ(Cell(cell), config=deq)
        self.decode = nnx.Linear(config.width, 1, rngs=rngs)

    def __call__(self, t: Array, *, key: Array | None = None) -> tuple[Array, jdeq.SolverInfo]:
        """t (B, 1) -> values (B, 1) and the solve's statistics."""
        z, info = self.equilibrium(self.encode(t), key=key)
        return self.decode(z), info


class Cell(nnx.Module):
    """The equilibrium function."""

    def __init__(self, linear: nnx.Linear):
        self.linear = linear

    def __call__(self, z: Array, x: Array) -> Array:
        """z and x, both (B, D) -> same shape."""
        return jnp.sin(0.3 * self.linear(z) + x)

    def initial_state(self, x: Array, key: Array | None = None) -> Array:
        """Zeros."""
        del key
        return jnp.zeros_like(x)
