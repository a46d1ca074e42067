"""Training of a layer on a toy task."""

import jax.numpy as jnp
import optax
from flax import nnx


def train(deq, x):
    """The losses of 30 steps that draw the outputs for `x` towards 0.3."""
    optimizer = nnx.Optimizer(deq, optax.sgd(0.5, momentum=0.9), wrt=nnx.Param)

    @nnx.jit
    def step(deq, optimizer):
        loss, grads = nnx.value_and_grad(lambda m: jnp.mean((m(x)[0] - 0.3) ** 2))(deq)
        optimizer.update(deq, grads)
        return loss

    return [step(deq, optimizer) for _ in range(30)]
