"""Several runs beside each other."""

import dataclasses
import math
import operator
import pathlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zoo.errors import UserError
from zoo.figures import Figures, judging
from zoo.folder import RunFolder
from zoo.logs.metrics import read_metrics
from zoo.registry import get_task
from zoo.run import flat

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class LoggedRun:
    """What a run's folder says of it, finished or not."""

    name: str
    config: Mapping[str, Any]
    rows: Sequence[Row]
    figures: Figures

    @classmethod
    def read(cls, out: pathlib.Path) -> "LoggedRun":
        """Raises `UserError` if the folder is not that of a run, or nothing is logged yet."""
        config = RunFolder(out).read_config()
        rows = read_metrics(out)
        if not rows:
            raise UserError(f"{out}: nothing is logged yet")
        return cls(str(out), config, rows, get_task(str(config.get("name"))).figures)

    def of(self, *splits: str) -> list[Row]:
        """Its rows of these splits."""
        return [row for row in self.rows if row["split"] in splits]

    @property
    def watched(self) -> list[Row]:
        """The evaluations by which the best one is chosen."""
        return self.of("valid") or self.of("test")

    @property
    def result(self) -> Row:
        """The evaluation that counts most of those there are: the last one, on the test split."""
        return (self.of("test") or self.of("valid") or [{}])[-1]

    def last(self, name: str) -> str:
        """A figure of the result, for people."""
        return (
            _text(self.figures[name].text, self.result.get(name)) if name in self.figures else "-"
        )

    def best(self, name: str) -> str:
        """The best one of an evaluation while it was trained."""
        if name not in self.figures:
            return "-"
        figure = self.figures[name]
        found = [row[name] for row in self.watched if math.isfinite(row.get(name, math.nan))]
        choose = max if figure.higher_is_better else min
        return _text(figure.text, choose(found, default=math.nan))

    def step_time(self) -> float:
        """Median seconds per step."""
        times = [row["step_time"] for row in self.rows if "step_time" in row]
        return statistics.median(times) if times else math.nan


def comparison(runs: Sequence[LoggedRun]) -> str:
    """A table with a column per run: what differs in the settings, then the figures.

    Raises:
        UserError: the runs are judged by different figures.
    """
    judges = {judging(run.figures) for run in runs}
    if len(judges) > 1:
        raise UserError(f"the runs are judged by different figures: {', '.join(sorted(judges))}")
    settings = [flat(run.config) for run in runs]
    names = list(dict.fromkeys(name for one in settings for name in one))
    rows = [["run", *(run.name for run in runs)]]
    for name in names:
        values = [one.get(name, "-") for one in settings]
        if any(value != values[0] for value in values):
            rows.append(
                [name, *(" ".join(map(str, v)) if isinstance(v, list) else str(v) for v in values)]
            )
    figures: dict[str, Callable[[LoggedRun], str]] = {
        "steps made": lambda run: str(max(row["step"] for row in run.rows)),
    }
    for name in dict.fromkeys(name for run in runs for name in run.figures):
        figures[f"{name}, last"] = operator.methodcaller("last", name)
        figures[f"{name}, best"] = operator.methodcaller("best", name)
    figures |= {
        "loss": lambda run: _text("{:.4g}".format, run.result.get("loss")),
        "relative residual": lambda run: _text("{:.1e}".format, run.result.get("residual")),
        "NFE": lambda run: _text("{:.1f}".format, run.result.get("nfe")),
        "converged": lambda run: _text("{:.1%}".format, run.result.get("converged")),
        "spectral radius": lambda run: _text("{:.2f}".format, run.result.get("spectral_radius")),
        "steps left out": lambda run: _text("{:.0f}".format, _last(run, "skipped")),
        "time per step": lambda run: _text(_duration, run.step_time()),
    }
    for name, figure in figures.items():
        values = [figure(run) for run in runs]
        if set(values) != {"-"}:
            rows.append([name, *values])
    widths = [max(len(row[i]) for row in rows) for i in range(len(runs) + 1)]
    line = lambda row: "  ".join(
        cell.ljust(w) for cell, w in zip(row, widths, strict=True)
    ).rstrip()
    return "\n".join(map(line, rows))


def _last(run: LoggedRun, name: str) -> float | None:
    return next((row[name] for row in reversed(run.of("train")) if name in row), None)


def _text(form: Callable[[float], str], value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else form(value)


def _duration(seconds: float) -> str:
    return f"{1e3 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
