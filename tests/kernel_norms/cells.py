"""A cell, layers and wrappers to try norms with."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jdeq

WRAPPERS = {"weight_norm": jdeq.nn.WeightNorm, "spectral_norm": jdeq.nn.SpectralNorm}
X = jnp.asarray(np.random.default_rng(0).normal(size=(8, 4)), jnp.float32)


class Cell(nnx.Module):
    def __init__(self, *, wrap=lambda module: module):
        self.linear = wrap(nnx.Linear(4, 4, rngs=nnx.Rngs(0)))

    def __call__(self, z, x):
        return jnp.tanh(0.5 * self.linear(z) + x)


def layer(norm_type, cell=None, **options):
    return jdeq.nn.DEQ(cell or Cell(), jdeq.DEQConfig(norm_type=norm_type, **options))


wrappers = pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
names = pytest.mark.parametrize("name", WRAPPERS)
