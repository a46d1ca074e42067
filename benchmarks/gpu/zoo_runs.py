"""Runs of the zoo, which needs packages that may not be there."""

import dataclasses
import importlib.util
from typing import TYPE_CHECKING, Any

from .context import Skip

if TYPE_CHECKING:
    from zoo.training.trainer import Trainer

NEEDS = ("grain", "optax", "orbax.checkpoint", "matplotlib", "sklearn", "PIL")


def check_packages() -> None:
    """Raises `Skip` if the zoo cannot be imported."""
    absent = [name for name in NEEDS if not installed(name)]
    if absent:
        raise Skip(f"not installed: {', '.join(absent)}")


def installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of the package it is in
        return False


def load(model: str, preset: str, folder: Any) -> Any:
    """The data of a preset."""
    from zoo.registry import get_task

    task = get_task(model)
    chosen = task.presets[preset]
    return task.load_data(chosen.data, folder, model=chosen.model, meta={})


def trainer(
    model: str, preset: str, data: Any, *, deq: dict[str, Any] | None = None, **train: Any
) -> "Trainer":
    """A run of a preset with other settings of its solves and of its training."""
    from zoo.registry import get_task
    from zoo.run import RunConfig
    from zoo.training.trainer import Trainer

    task = get_task(model)
    start = RunConfig.of_preset(task, preset)
    config = dataclasses.replace(
        start,
        model=dataclasses.replace(start.model, **data.sizes),
        deq=dataclasses.replace(start.deq, **(deq or {})),
        train=dataclasses.replace(start.train, **train),
    )
    return Trainer(task, config, data)
