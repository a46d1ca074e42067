"""What a run tells while it goes on: a progress bar or lines, a file of figures, TensorBoard."""

import pathlib
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from tqdm import tqdm

from zoo.devices.distributed import is_first
from zoo.figures import Evaluation, Figures, judging, what_is_solved
from zoo.folder import RunFolder
from zoo.logs.metrics import MetricsLog
from zoo.logs.tensorboard import TensorBoardLog

SHOWN = {  # in the bar, by the name of the figure
    "loss": ("loss", "{:.3f}"),
    "residual": ("residual", "{:.1e}"),
    "nfe": ("NFE", "{:.0f}"),
    "unconverged": ("unconverged", "{:.0%}"),
    "solver_unconverged": ("before phantom steps", "{:.0%}"),
    "unrolled": ("unrolled", "{:.0f} steps"),
    "spectral_radius": ("radius", "{:.2f}"),
    "skipped": ("skipped", "{:.0f}"),
}
TIMES = {"compile_time": "compiled in {:.1f} s", "step_time": "{:.3f} s/step"}  # in lines


class Journal:
    """Writes the figures of training and of evaluations; only the first process does.

    People see a bar in a terminal. Where the output is none they see a line for each step that is
    logged, as soon as it is.

    Args:
        out: output folder.
        figures: what the model is judged by.
        start, steps: where the run begins now, and how many steps it has in all.
        tensorboard: also write files for TensorBoard.
        unrolled: of an unrolled model, its steps.
    """

    def __init__(
        self,
        out: pathlib.Path,
        figures: Figures,
        *,
        start: int,
        steps: int,
        tensorboard: bool,
        unrolled: int | None = None,
    ):
        first = is_first()
        self._figures, self._steps, self._unrolled = figures, steps, unrolled
        self._lines = first and not (sys.stdout.isatty() and sys.stderr.isatty())
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

    def compiled(self, step: int, compile_time: float) -> None:
        """The first step since the start was made; it is not one to be logged."""
        self.say(f"step {step}/{self._steps}: {TIMES['compile_time'].format(compile_time)}")

    def train(
        self, step: int, outputs: Mapping[str, np.ndarray], compile_time: float | None = None
    ) -> None:
        """Figures of a step, which has been waited for; `compile_time` if it is the first one."""
        values = {name: float(value) for name, value in outputs.items() if not np.ndim(value)}
        for name, figure in self._figures.items():
            if all(of in outputs for of in figure.of):
                values[name] = figure.made(outputs)
        now = time.perf_counter()
        since, started = self._clock or (step, now)
        if step > since:
            values["step_time"] = (now - started - self._paused) / (step - since)
        self._clock, self._paused = (step, now), 0.0
        values = what_is_solved(values, self._unrolled)
        self._write(step, "train", values)
        self._show(values)
        if self._lines or compile_time is not None:
            texts = [f"{label} {text}" for label, text in self._shown.items()]
            times = {"compile_time": compile_time, "step_time": values.get("step_time")}
            texts += [TIMES[name].format(t) for name, t in times.items() if t is not None]
            self.say(f"step {step}/{self._steps}: {', '.join(texts)}")

    def evaluated(
        self, step: int, split: str, evaluation: Evaluation, *, last: bool = False, **more: float
    ) -> None:
        """Figures of an evaluation, and what else was measured with it; the last is said later."""
        self._write(step, split, evaluation.values() | more)
        self._show(more)
        if not last:
            self.say(f"step {step}/{self._steps}: {evaluation.line(split, self._figures)}")

    def say(self, text: str) -> None:
        """One line for people, above the bar; at once, also where the output is a file."""
        if self._logs:
            self._bar.write(text)
            sys.stdout.flush()

    def _write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        for log in self._logs:
            log.write(step, split, values)

    def _show(self, values: Mapping[str, float]) -> None:
        values = dict(values)
        if "converged" in values:
            values["unconverged"] = 1 - values["converged"]
            solver = values.get("solver_converged", values["converged"])
            if solver != values["converged"] or SHOWN["solver_unconverged"][0] in self._shown:
                values["solver_unconverged"] = 1 - solver
        if not values.get("skipped"):
            values.pop("skipped", None)
        if self._unrolled is not None and "nfe" in values:
            values["unrolled"] = values.pop("nfe")
        judge = judging(self._figures)
        shown = SHOWN | {judge: (judge, "{:.3f}")}
        for name, (label, form) in shown.items():
            if name in values:
                self._shown[label] = form.format(values[name])
        labels = [label for label, _ in shown.values() if label in self._shown]
        self._shown = {label: self._shown[label] for label in labels}
        self._bar.set_postfix(self._shown)
