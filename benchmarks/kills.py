"""`python -m benchmarks.kills`: a training run that is killed again and again loses nothing.

Trains a small model once without disturbance, and once killed (SIGKILL) at random moments, many
of them while a checkpoint is being written, and resumed each time. The end must be the same, bit
for bit; what a kill costs is the steps since the last complete checkpoint.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import jax
import numpy as np

from zoo.checkpoints.checkpoint import Checkpoint, find_checkpoint
from zoo.checkpoints.saving import BEING_WRITTEN
from zoo.errors import UserError
from zoo.folder import RunFolder
from zoo.logs.metrics import read_metrics

ZOO = (sys.executable, "-m", "zoo")
SMALL = (
    "train mdeq --steps 300 --save_every 3 --log_every 1 --eval_every 50 --batch_size 8 "
    "--eval_batch_size 360 --channels 4 --head_channels 1 --n_blocks 1 --final_channels 6 "
    "--n_groups 2 --expansion 1 --f_solver fixed_point_iter --f_max_iter 2 --eval_factor 1 --grad 1"
).split()
LINGER = 0.2  # seconds at most between a step that was reached and the kill
PATIENCE = 600  # seconds that a run may take to reach a step


@dataclasses.dataclass
class Outcome:
    """What became of the killed run.

    Attributes:
        lost: per kill, the steps that were made again.
        saving: how many kills hit a checkpoint in the making.
        arrays: how many arrays the final state has.
        different: those that differ from the undisturbed run's, and whether the log does.
        restart: seconds from a start to the first new step, one figure per kill.
    """

    lost: list[int]
    saving: int
    arrays: int
    different: list[str]
    restart: list[float]

    def line(self) -> str:
        """The figures for people."""
        end = ", ".join(self.different) or "none"
        return (
            f"{len(self.lost)} kills, {self.saving} of them while a checkpoint was written: "
            f"{max(self.lost)} steps lost at most, {np.mean(self.lost):.1f} on average; "
            f"{np.mean(self.restart):.1f} s until the next step; "
            f"differences in {self.arrays} arrays of the final state and in the log: {end}"
        )


def survive(command: Sequence[str], folder: pathlib.Path, *, kills: int, seed: int = 0) -> Outcome:
    """Runs a training command undisturbed, then killed `kills` times.

    Args:
        command: a program and its arguments; `--out` and `--resume` are added. It has to log
            every step, and should take much longer than the kills' `LINGER`.
        folder: for both runs, and a cache of compiled programs.
        kills: how often.
        seed: of the moments.
    """
    draws = random.Random(seed)
    whole, killed = folder / "whole", folder / "killed"
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
    }

    def started(out: pathlib.Path) -> subprocess.Popen:
        resume = ["--resume"] if RunFolder(out).checkpoint_paths() else []
        argv = [*command, "--out", str(out), *resume]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(argv, env=environment, **quiet)

    def finished(process: subprocess.Popen) -> None:
        _, errors = process.communicate()
        if process.returncode:
            raise RuntimeError(errors)

    finished(started(whole))
    steps = _last_step(whole)
    outcome = Outcome([], 0, 0, [], [])
    for number in range(kills):
        target = steps * (number + draws.random()) / (kills + 1)
        process, begun = started(killed), time.perf_counter()
        before = _last_step(killed)
        seen = None
        while (now := _last_step(killed)) < target or now == 0:
            if process.poll() is not None or time.perf_counter() - begun > PATIENCE:
                finished(process)
                raise RuntimeError(f"the run did not get to step {target:.0f}: {now}")
            seen = seen or (time.perf_counter() - begun if now != before else None)
            time.sleep(0.002)
        time.sleep(LINGER * draws.random())
        process.send_signal(signal.SIGKILL)
        process.communicate()
        outcome.restart.append(seen or time.perf_counter() - begun)
        outcome.saving += any(RunFolder(killed).checkpoints.glob(f"*{BEING_WRITTEN}*"))
        outcome.lost.append(_last_step(killed) - _saved_step(killed))
    finished(started(killed))
    outcome.arrays, outcome.different = _differences(whole, killed)
    return outcome


def _last_step(out: pathlib.Path) -> int:
    rows = [row["step"] for row in read_metrics(out) if row["split"] == "train"]
    return max(rows, default=0)


def _saved_step(out: pathlib.Path) -> int:
    try:
        return find_checkpoint(out).step
    except UserError:
        return 0


def _differences(a: pathlib.Path, b: pathlib.Path) -> tuple[int, list[str]]:
    """How many arrays the last checkpoints have, and what differs between the two runs."""
    one, other = (find_checkpoint(out) for out in (a, b))
    if one.arrays != other.arrays or one.step != other.step:
        return len(one.arrays), ["step, or shapes"]
    first, second = _arrays(one), _arrays(other)
    names = [name for name, a in first.items() if a.tobytes() != second[name].tobytes()]
    timeless = lambda row: {k: v for k, v in row.items() if k != "step_time"}
    logs = [list(map(timeless, read_metrics(out))) for out in (a, b)]
    return len(one.arrays), names + ([] if logs[0] == logs[1] else ["the log"])


def _arrays(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    def shape(text: str) -> jax.ShapeDtypeStruct:
        dtype, shape = text.rstrip("]").split("[")
        return jax.ShapeDtypeStruct(json.loads(f"[{shape}]"), np.dtype(dtype))

    found = checkpoint.load({name: shape(text) for name, text in checkpoint.arrays.items()})
    return {name: np.asarray(a) for name, a in found.items()}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (%(default)s)")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        outcome = survive([*ZOO, *SMALL], pathlib.Path(folder), kills=args.kills, seed=args.seed)
    print(outcome.line())
    return 1 if outcome.different else 0


if __name__ == "__main__":
    sys.exit(main())
