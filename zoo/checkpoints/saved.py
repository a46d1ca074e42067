"""A finished or interrupted run, from one of its checkpoints."""

import dataclasses
from typing import TypeVar

import jax
from flax import nnx

from zoo.checkpoints.checkpoint import Checkpoint
from zoo.data.split import Data
from zoo.errors import UserError
from zoo.optimizer import make_optimizer
from zoo.run import RunConfig
from zoo.state import initial_state
from zoo.task import Task

T = TypeVar("T")


def saved_run(task: Task, checkpoint: Checkpoint) -> RunConfig:
    """The configuration of a checkpoint; raises `UserError` if it is one of another model."""
    saved = RunConfig.from_dict(checkpoint.config)
    if saved.name != task.name:
        raise UserError(
            f"{checkpoint.path}: a checkpoint of model {saved.name!r}, not {task.name!r}"
        )
    return saved


def restored_model(
    task: Task,
    config: RunConfig,
    checkpoint: Checkpoint,
    sharding: jax.sharding.Sharding | None = None,
) -> nnx.Module:
    """A model with the state of a checkpoint, its parameters averaged if they were.

    Args:
        task: the model.
        config: the saved one, apart from what the parameters do not depend on.
        checkpoint: the state.
        sharding: where all its arrays are put; on this process's first device by default.
    """
    model = nnx.eval_shape(lambda: task.build(config.model, config.deq, rngs=nnx.Rngs(0)))
    graphdef, params, rest = nnx.split(model, task.trained, ...)
    optimizer = make_optimizer(task, config.train)
    like = jax.eval_shape(lambda p, r: initial_state(p, r, optimizer, config.train), params, rest)
    place = lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding)
    state = checkpoint.restore(jax.tree.map(place, like))
    return nnx.merge(graphdef, state.averaged, state.rest)


def sized(model: T, data: Data) -> T:
    """A model's configuration with the sizes that follow from the data.

    Raises:
        UserError: they do not go with its other sizes.
    """
    try:
        return dataclasses.replace(model, **data.sizes)  # pyright: ignore
    except ValueError as e:
        raise UserError(str(e)) from e
