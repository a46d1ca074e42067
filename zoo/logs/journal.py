"""What a run tells while it goes on: a progress bar, a file of figures, TensorBoard."""

import pathlib
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from tqdm import tqdm

from zoo.devices.distributed import is_first
from zoo.figures import Evaluation, Figures, judging
from zoo.folder import RunFolder
from zoo.logs.metrics import MetricsLog
from zoo.logs.tensorboard import TensorBoardLog

SHOWN = {  # in the bar, by the name of the figure
    "loss": ("loss", "{:.3f}"),
    "residual": ("residual", "{:.1e}"),
    "nfe": ("NFE", "{:.0f}"),
    "unconverged": ("unconverged", "{:.0%}"),
    "spectral_radius": ("radius", "{:.2f}"),
    "skipped": ("skipped", "{:.0f}"),
}


class Journal:
    """Writes the figures of training and of evaluations; only the first process does.

    Args:
        out: output folder.
        figures: what the model is judged by.
        start, steps: where the run begins now, and how many steps it has in all.
        tensorboard: also write files for TensorBoard.
    """

    def __init__(
        self, out: pathlib.Path, figures: Figures, *, start: int, steps: int, tensorboard: bool
    ):
        first = is_first()
        self._figures = figures
        self._logs = []
        if first:
            self._logs.append(MetricsLog(out, resume_at=start))
        if first and tensorboard:
            self._logs.append(TensorBoardLog(RunFolder(out).tensorboard, resume_at=start))
        hidden = None if first else True  # None: unless it is a terminal
        self._bar = tqdm(total=steps, initial=start, disable=hidden, file=sys.stderr)
        self._shown: dict[str, str] = {}
        self._clock: tuple[int, float] | None = None  # step and time since when steps are timed
        self._paused = 0.0

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_) -> None:
        self._bar.close()
        for log in self._logs:
            log.close()

    def made(self, step: int) -> None:
        """A step was made."""
        self._bar.update()
        if self._clock is None:  # the first one was compiled, too
            self._clock = (step, time.perf_counter())

    @contextmanager
    def pause(self) -> Iterator[None]:
        """What happens in here is not part of the time per step."""
        started = time.perf_counter()
        yield
        self._paused += time.perf_counter() - started

    def train(self, step: int, outputs: Mapping[str, np.ndarray]) -> None:
        """Figures of a step, which has been waited for."""
        values = {name: float(value) for name, value in outputs.items() if not np.ndim(value)}
        for name, figure in self._figures.items():
            if all(of in outputs for of in figure.of):
                values[name] = figure.made(outputs)
        now = time.perf_counter()
        since, started = self._clock or (step, now)
        if step > since:
            values["step_time"] = (now - started - self._paused) / (step - since)
        self._clock, self._paused = (step, now), 0.0
        self._write(step, "train", values)
        self._show(values)

    def evaluated(self, step: int, split: str, evaluation: Evaluation, **more: float) -> None:
        """Figures of an evaluation, and what else was measured with it."""
        self._write(step, split, evaluation.values() | more)
        self._show(more)
        self.say(f"step {step}: {evaluation.line(split, self._figures)}")

    def say(self, text: str) -> None:
        """One line for people, above the bar."""
        if self._logs:
            self._bar.write(text)

    def _write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        for log in self._logs:
            log.write(step, split, values)

    def _show(self, values: Mapping[str, float]) -> None:
        values = dict(values)
        if "converged" in values:
            values["unconverged"] = 1 - values["converged"]
        if not values.get("skipped"):
            values.pop("skipped", None)
        judge = judging(self._figures)
        shown = SHOWN | {judge: (judge, "{:.3f}")}
        for name, (label, form) in shown.items():
            if name in values:
                self._shown[label] = form.format(values[name])
        self._bar.set_postfix(self._shown)
