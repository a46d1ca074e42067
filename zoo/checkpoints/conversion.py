"""Checkpoints from PyTorch state dicts, and back."""

import dataclasses
import pathlib

import jax
import numpy as np
from flax import nnx

from zoo.arrays import load_arrays
from zoo.checkpoints.saving import Saver
from zoo.errors import UserError
from zoo.folder import RunFolder
from zoo.lock import locked
from zoo.optimizer import make_optimizer
from zoo.run import RunConfig
from zoo.state import initial_state
from zoo.task import Task
from zoo.upstream.files import read_config
from zoo.upstream.original import Original


def converted_config(task: Task, config: RunConfig, path: pathlib.Path) -> RunConfig:
    """A run with the sizes and DEQ options of a JSON file.

    It is the original's configuration (with an entry `upstream_config`), or holds `model` and
    `deq`, as a run saves them; what these leave out stays as it is.

    Raises:
        UserError: it cannot be used; the text says why.
    """
    content = read_config(path)
    try:
        if "upstream_config" in content:
            if not isinstance(task.weights, Original):
                raise UserError(f"model {task.name!r} has no PyTorch original")
            model, deq = task.weights.settings(content)
            return dataclasses.replace(config, model=model, deq=deq)
        given = {k: content[k] for k in ("model", "deq") if k in content}
        if not given:
            raise UserError("no entry upstream_config, model or deq")
        parts = {k: getattr(config, k) for k in given}
        read = {k: part.from_dict(part.to_dict() | given[k]) for k, part in parts.items()}
        return dataclasses.replace(config, **read)
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
        task.weights.load(model, arrays)
    except UserError as e:
        raise UserError(f"{file}: {e}") from e
    _, params, rest = nnx.split(model, task.trained, ...)
    optimizer = make_optimizer(task, config.train)
    state = jax.jit(lambda p, r: initial_state(p, r, optimizer, config.train))(params, rest)
    with locked(out):
        if RunFolder(out).checkpoint_paths():
            raise UserError(f"{out}: there is a checkpoint already")
        with Saver(out, keep=1, start=0) as saver:
            saver.save(0, state, config.to_dict(), {})
    return arrays
