"""Checkpoints from PyTorch state dicts, and back."""

import pathlib
from typing import Any

import jax
import numpy as np
from flax import nnx

import jdeq
from zoo.arrays import load_arrays
from zoo.checkpoints.checkpoint import checkpoint_paths
from zoo.checkpoints.saving import Saver
from zoo.errors import UserError
from zoo.run import RunConfig
from zoo.settings import Preset
from zoo.task import Task
from zoo.training.optimizer import make_optimizer
from zoo.training.state import initial_state
from zoo.upstream.reference import read_config


def converted_config(task: Task, preset: Preset, path: pathlib.Path) -> tuple[Any, jdeq.DEQConfig]:
    """Sizes and DEQ options of a JSON file.

    It is the original's configuration (with an entry `upstream_config`), or holds `model` and
    `deq`, as a run saves them; what these leave out is the preset's.

    Raises:
        UserError: it cannot be used; the text says why.
    """
    content = read_config(path)
    try:
        if "upstream_config" in content:
            return task.from_upstream(content)
        parts = {k: content[k] for k in ("model", "deq") if k in content}
        if not parts:
            raise UserError("no entry upstream_config, model or deq")
        model = vars(preset.model) | parts.get("model", {})
        deq = preset.deq.to_dict() | parts.get("deq", {})
        return task.model_config(model), jdeq.DEQConfig.from_dict(deq)
    except KeyError as e:
        raise UserError(f"{path}: no entry {e}") from e
    except (UserError, TypeError, ValueError) as e:
        raise UserError(f"{path}: {e}") from e


def import_checkpoint(
    task: Task, config: RunConfig, file: pathlib.Path, out: pathlib.Path
) -> dict[str, np.ndarray]:
    """Saves the arrays of a file as the checkpoint of a run at step 0, and returns them.

    Raises:
        UserError: the file cannot be read or does not fit the sizes, or `out` has a checkpoint.
    """
    arrays = load_arrays(file)
    model = nnx.jit(lambda: task.build(config.model, config.deq, rngs=nnx.Rngs(config.seed)))()
    model.train()
    try:
        task.import_state_dict(model, arrays)
    except UserError as e:
        raise UserError(f"{file}: {e}") from e
    _, params, rest = nnx.split(model, nnx.Param, ...)
    if checkpoint_paths(out):
        raise UserError(f"{out}: there is a checkpoint already")
    optimizer = make_optimizer(task, config.train)
    state = jax.jit(lambda p, r: initial_state(p, r, optimizer, config.train))(params, rest)
    with Saver(out, keep=1, start=0) as saver:
        saver.save(0, state, config.to_dict(), {})
    return arrays
