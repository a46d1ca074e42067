"""The optimiser of the original: Adam, as PyTorch has it, and what comes before it."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from jdeq.options import option
from zoo.schedules import learning_rate
from zoo.settings import TrainConfig

CLIP_EPS = 1e-6  # of PyTorch


@dataclasses.dataclass(frozen=True)
class IGNNTrainConfig(TrainConfig):
    """`zoo.settings.TrainConfig` and two more settings.

    Args:
        clip_each: norm of the gradient of each array at most; 0: any.
        halve_at: from this step on the model's own learning rate is half of what it was; 0: never.
    """

    clip_each: float = option(0.0, "norm of each array's gradient at most; 0: any", low=0)
    halve_at: int = option(0, "step from which on the own rate is halved; 0: never", low=0)


def adam(train: IGNNTrainConfig) -> optax.GradientTransformation:
    """Adam whose weight decay is part of the gradient, after each array's has been clipped."""
    parts: list[optax.GradientTransformation] = [optax.adam(learning_rate(train, own_rate(train)))]
    if train.weight_decay:
        parts.insert(0, optax.add_decayed_weights(train.weight_decay))
    if train.clip_each:
        parts.insert(0, clip_each(train.clip_each))
    return optax.chain(*parts)


def own_rate(train: IGNNTrainConfig) -> optax.Schedule:
    """The same all the time, or halved once."""
    return optax.piecewise_constant_schedule(
        train.lr, {train.halve_at: 0.5} if train.halve_at else {}
    )


def clip_each(norm: float) -> optax.GradientTransformation:
    """Scales the gradient of every array, on its own, to a 2-norm of at most `norm`."""

    def clipped(gradient: jax.Array) -> jax.Array:
        size = jnp.sqrt(jnp.sum(jnp.square(gradient)))
        return gradient * jnp.minimum(norm / (size + CLIP_EPS), 1)

    return optax.stateless(lambda updates, _: jax.tree.map(clipped, updates))
