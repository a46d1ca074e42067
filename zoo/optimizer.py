"""The optimiser, as far as all models share it."""

import optax

from zoo.settings import TrainConfig
from zoo.task import Task


def make_optimizer(task: Task, train: TrainConfig) -> optax.GradientTransformation:
    """The model's own optimiser, after clipping of the gradient's global norm if asked for."""
    own = task.optimizer(train)
    return optax.chain(optax.clip_by_global_norm(train.clip), own) if train.clip else own
