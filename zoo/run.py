"""Everything that defines a training run, as one JSON-able value."""

import argparse
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import jdeq
from jdeq.command_line import add_options, read_options
from jdeq.extend import check_int
from jdeq.options import options_for
from zoo.errors import UserError
from zoo.registry import get_task
from zoo.settings import TrainConfig
from zoo.task import Task

LARGEST_SEED = 2**32 - 1  # of a larger one some bits would count for nothing


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """A run: which model and data, its sizes, DEQ options, training settings and seed.

    Raises:
        TypeError, ValueError: the seed is not an int, or out of range; the rest is of another type.
    """

    name: str
    preset: str
    data: str
    seed: int
    model: Any  # a ModelConfig
    deq: jdeq.DEQConfig
    train: TrainConfig

    def __post_init__(self) -> None:
        check_int("seed", self.seed, low=0, high=LARGEST_SEED)

    @classmethod
    def of_preset(
        cls, task: Task, preset: str | None = None, *, seed: int = 0, **parts: Any
    ) -> "RunConfig":
        """A run of a preset, the task's first one by default.

        Args:
            task: the model.
            preset: a name.
            seed: of the weights and of the order of the batches.
            **parts: `model`, `deq`, `train` or `data`, instead of the preset's.

        Raises:
            UserError: the preset is unknown.
        """
        name = next(iter(task.presets)) if preset is None else preset
        if name not in task.presets:
            raise UserError(f"unknown preset {name!r}: choose from {', '.join(task.presets)}")
        start = task.presets[name]
        settings = {k: getattr(start, k) for k in ("data", "model", "deq", "train")}
        return cls(name=task.name, preset=name, seed=seed, **settings | parts)

    def add_options(self, parser: argparse.ArgumentParser, *, command: str) -> None:
        """Adds the options that a command may change, with this run's values as defaults."""
        training = "training" if command == "train" else "batches"
        add_options(parser, self.train, training, command=command)
        add_options(parser, self.model, "model", command=command)
        jdeq.add_deq_args(parser, self.deq)

    def read_options(self, args: argparse.Namespace, *, command: str) -> "RunConfig":
        """This run with what the command line of `add_options` says.

        Raises:
            UserError: an option is out of range, does not go with others, or defines the
                parameters of a model that is trained already.
        """
        parts = {"train": self.train, "model": self.model, "deq": self.deq}
        try:
            read = {k: read_options(args, part, command=command) for k, part in parts.items()}
        except (TypeError, ValueError) as e:
            raise UserError(str(e)) from e
        changed = dataclasses.replace(self, **read)
        if command != "train":
            for name, value in self.deq.defining_parameters().items():
                if getattr(changed.deq, name) != value:
                    raise UserError(
                        f"--{name} cannot change after training: it defines the parameters"
                    )
        return changed

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "preset": self.preset,
            "data": self.data,
            "seed": self.seed,
            "model": self.model.to_dict(),
            "deq": self.deq.to_dict(),
            "train": self.train.to_dict(),
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> "RunConfig":
        """The inverse of `to_dict`.

        Raises:
            UserError: the saved configuration is not one of this program.
        """
        try:
            task = get_task(saved["name"])
            return cls(
                name=saved["name"],
                preset=saved["preset"],
                data=saved["data"],
                seed=saved["seed"],
                model=task.model_config(saved["model"]),
                deq=jdeq.DEQConfig.from_dict(saved["deq"]),
                train=task.train_config(saved["train"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as e:
            raise UserError(
                f"the saved configuration cannot be used: {e!r} (a run that was trained with "
                "--plugin needs it again)"
            ) from e

    def check_resumes(self, saved: "RunConfig") -> None:
        """Raises `UserError` unless this run may go on from `saved`.

        Only what belongs to "resume" may change: the number of steps, how often to log, ...
        """
        free = {f"train.{each.name}" for each in options_for(type(self.train), "resume")}
        old, new = flat(saved.to_dict()), flat(self.to_dict())
        changed = [
            f"{name} was {json.dumps(old.get(name))}, now {json.dumps(new.get(name))}"
            for name in sorted(old.keys() | new.keys())
            if old.get(name) != new.get(name) and name not in free
        ]
        if changed:
            raise UserError(f"--resume continues another run: {'; '.join(changed)}")


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings of settings under one name, `train.lr`."""
    found = {}
    for name, value in nested.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found
