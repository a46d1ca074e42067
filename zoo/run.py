"""Everything that defines a training run, as one JSON-able value."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import jdeq
from zoo.errors import UserError
from zoo.options import to_dict
from zoo.registry import get_task
from zoo.settings import CADENCE, TrainConfig


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """A run: which model and data, its sizes, DEQ options, training settings and seed."""

    name: str
    preset: str
    data: str
    seed: int
    model: Any
    deq: jdeq.DEQConfig
    train: TrainConfig

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "preset": self.preset,
            "data": self.data,
            "seed": self.seed,
            "model": to_dict(self.model),
            "deq": self.deq.to_dict(),
            "train": to_dict(self.train),
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
        except (KeyError, TypeError, ValueError) as e:
            raise UserError(
                f"the saved configuration cannot be used: {e!r} (a run that was trained with "
                "--plugin needs it again)"
            ) from e

    def check_resumes(self, saved: "RunConfig") -> None:
        """Raises `UserError` unless this run may go on from `saved`.

        Only the number of steps and how often to log, evaluate and save may change.
        """
        free = {f"train.{name}" for name in ("steps", *CADENCE)}
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
