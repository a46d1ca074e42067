"""A finished or interrupted run, from its checkpoints."""

import dataclasses
import pathlib
from typing import Any, TypeVar

import jax
from flax import nnx

from zoo.checkpoint import open_checkpoints
from zoo.errors import UserError
from zoo.optimizer import make_optimizer
from zoo.run import RunConfig
from zoo.state import initial_state
from zoo.task import Data, Task

T = TypeVar("T")


def saved_run(task: Task, folder: pathlib.Path) -> RunConfig:
    """The configuration of the newest checkpoint.

    Raises:
        UserError: there is none in `folder`, or it is one of another model.
    """
    with open_checkpoints(folder) as checkpoints:
        saved = RunConfig.from_dict(checkpoints.restore_config())
    if saved.name != task.name:
        raise UserError(f"{folder}: a checkpoint of model {saved.name!r}, not {task.name!r}")
    return saved


def saved_meta(folder: pathlib.Path) -> dict[str, Any]:
    """What belongs to the data of the newest checkpoint, such as a vocabulary."""
    with open_checkpoints(folder) as checkpoints:
        return checkpoints.restore_meta()


def restored_model(task: Task, config: RunConfig, folder: pathlib.Path) -> nnx.Module:
    """A model with the state of the newest checkpoint, its parameters averaged if they were.

    `config` is the saved one, apart from what the parameters do not depend on.
    """
    model = nnx.eval_shape(lambda: task.build(config.model, config.deq, rngs=nnx.Rngs(0)))
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    optimizer = make_optimizer(task, config.train)
    like = jax.eval_shape(lambda p, r: initial_state(p, r, optimizer, config.train), params, rest)
    with open_checkpoints(folder) as checkpoints:
        state = checkpoints.restore(like)
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
