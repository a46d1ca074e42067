"""The output folder of a run: what is called how in it."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from zoo.errors import UserError
from zoo.files import replacing
from zoo.plain_json import read_json

EARLIER = "earlier-"


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The names of a run's files; none of them need exist.

    Args:
        out: the folder, `--out` of a training run.
    """

    out: pathlib.Path

    @property
    def config(self) -> pathlib.Path:
        """Everything that defines the run, for people and for `plot` and `compare`."""
        return self.out / "config.json"

    @property
    def metrics(self) -> pathlib.Path:
        """The log, a line of JSON for each step and evaluation that is logged."""
        return self.out / "metrics.jsonl"

    @property
    def checkpoints(self) -> pathlib.Path:
        """A folder with a folder for each checkpoint, named by its step."""
        return self.out / "checkpoints"

    @property
    def picture(self) -> pathlib.Path:
        """Curves and solver, drawn at the end of the run."""
        return self.out / "training.png"

    @property
    def curves(self) -> pathlib.Path:
        """Curves, drawn by `plot` at any time."""
        return self.out / "curves.png"

    @property
    def tensorboard(self) -> pathlib.Path:
        """The folder of TensorBoard's files."""
        return self.out / "tensorboard"

    @property
    def profile(self) -> pathlib.Path:
        """The folder of the profiler's traces."""
        return self.out / "profile"

    @property
    def lock(self) -> pathlib.Path:
        """Locked by the process that trains there."""
        return self.out / "lock"

    def checkpoint_paths(self) -> list[pathlib.Path]:
        """The folders of the checkpoints, by step; they may be damaged."""
        found = self.checkpoints.iterdir() if self.checkpoints.is_dir() else ()
        return sorted((p for p in found if p.name.isdecimal()), key=lambda p: int(p.name))

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Writes the configuration, at once or not at all."""
        self.out.mkdir(parents=True, exist_ok=True)
        with replacing(self.config) as file:
            file.write(json.dumps(config, indent=1) + "\n")

    def read_config(self) -> dict[str, Any]:
        """The configuration of a run, which may be going on.

        Raises:
            UserError: the folder is not that of a run.
        """
        if not self.out.is_dir():
            raise UserError(f"{self.out}: no such folder")
        try:
            config = read_json(self.config)
        except (OSError, ValueError) as e:
            raise UserError(
                f"{self.out}: not the folder of a run: no {self.config.name} that can be read ({e})"
            ) from e
        if not isinstance(config, dict):
            raise UserError(f"{self.config}: expected a JSON object")
        return config

    def set_aside(self) -> pathlib.Path | None:
        """Moves what an earlier run left to a new folder in this one, and returns that."""
        if not self.checkpoint_paths():
            return None
        number = 1
        while (self.out / f"{EARLIER}{number}").exists():
            number += 1
        aside = self.out / f"{EARLIER}{number}"
        parts = (self.checkpoints, self.config, self.metrics, self.picture, self.curves)
        try:
            aside.mkdir()
            for path in (*parts, self.tensorboard, self.profile):
                if path.exists():
                    path.rename(aside / path.name)
        except OSError as e:
            raise UserError(
                f"{self.out}: has an earlier run, which cannot be moved ({e.strerror})"
            ) from e
        return aside
