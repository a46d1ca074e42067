"""The output folder of a run, apart from its checkpoints and figures."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from zoo.checkpoints.checkpoint import FOLDER, checkpoint_paths
from zoo.errors import UserError

CONFIG = "config.json"
PARTS = (FOLDER, CONFIG, "metrics.jsonl", "training.png", "tensorboard", "profile")
EARLIER = "earlier-"


def write_config(out: pathlib.Path, config: Mapping[str, Any]) -> None:
    """Writes the configuration of a run for people and for `plot` and `compare`."""
    out.mkdir(parents=True, exist_ok=True)
    temporary = out / f"{CONFIG}.tmp"
    temporary.write_text(json.dumps(config, indent=1) + "\n")
    temporary.replace(out / CONFIG)


def read_run_config(out: pathlib.Path) -> dict[str, Any]:
    """The configuration of a run, which may be going on.

    Raises:
        UserError: the folder is not that of a run.
    """
    if not out.is_dir():
        raise UserError(f"{out}: no such folder")
    try:
        return json.loads((out / CONFIG).read_text())
    except (OSError, ValueError) as e:
        raise UserError(f"{out}: not the folder of a run: no {CONFIG} that can be read") from e


def set_aside(out: pathlib.Path) -> pathlib.Path | None:
    """Moves what an earlier run left in a folder to a new folder in it, and returns that one."""
    if not checkpoint_paths(out):
        return None
    number = 1
    while (out / f"{EARLIER}{number}").exists():
        number += 1
    aside = out / f"{EARLIER}{number}"
    try:
        aside.mkdir()
        for name in PARTS:
            if (out / name).exists():
                (out / name).rename(aside / name)
    except OSError as e:
        raise UserError(f"{out}: has an earlier run, which cannot be moved ({e.strerror})") from e
    return aside
