"""Which models there are; each is imported only when it is asked for."""

import importlib

from zoo.errors import UserError
from zoo.task import Task

MODELS = {"mdeq": "zoo.mdeq.task", "lm": "zoo.lm.task"}


def get_task(name: str) -> Task:
    """The task of a model; raises `UserError` naming the models if there is none."""
    if name not in MODELS:
        raise UserError(f"unknown model {name!r}: choose from {', '.join(MODELS)}")
    return importlib.import_module(MODELS[name]).TASK
