"""Which models there are; each is imported only when it is asked for.

A model of the zoo is a package in this folder with a `task.py` that has `TASK`. Models from
elsewhere come with `--plugin`.
"""

from __future__ import annotations

import importlib
import pathlib
from typing import TYPE_CHECKING

from zoo.errors import UserError

if TYPE_CHECKING:  # slow to import, which not every command needs
    from zoo.task import Task

PLUGGED: dict[str, Task] = {}  # by name, as plugins have registered them


def model_names() -> tuple[str, ...]:
    """All models, those of plugins last."""
    here = sorted(path.parent.name for path in pathlib.Path(__file__).parent.glob("*/task.py"))
    return (*here, *PLUGGED)


def register_task(task: Task) -> None:
    """Makes a model known under its name; once more is no mistake.

    Raises:
        UserError: another model has this name, or it is not a task.
    """
    from zoo.task import Task

    if not isinstance(task, Task):
        raise UserError(f"expected a zoo.task.Task, got {task!r}")
    if task.name in model_names() and PLUGGED.get(task.name) is not task:
        raise UserError(f"there is a model {task.name!r} already")
    PLUGGED[task.name] = task


def get_task(name: str) -> Task:
    """The task of a model; raises `UserError` naming the models if there is none."""
    if name not in model_names():
        raise UserError(f"unknown model {name!r}: choose from {', '.join(model_names())}")
    return PLUGGED.get(name) or importlib.import_module(f"zoo.{name}.task").TASK
