"""Figures of merit, and the log of them: one JSON object per line."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Metric:
    """What a model is judged by.

    Args:
        name: as it is printed and logged.
        of: the output of a task's `loss` and `evaluate` of which it is made.
        text: the figure for people.
        higher_is_better: what a good figure is.
        transform: of the mean of `of`; the figure itself.
    """

    name: str
    of: str
    text: Callable[[float], str]
    higher_is_better: bool
    transform: Callable[[float], float] = lambda mean: mean

    def score(self, figure: float) -> float | None:
        """The greater the better; None for a figure that says nothing."""
        return (figure if self.higher_is_better else -figure) if math.isfinite(figure) else None


def _exp(x: float) -> float:
    return math.inf if x > 700 else math.exp(x)  # a diverged model is judged too


ACCURACY = Metric("accuracy", "accuracy", lambda x: f"{100 * x:.2f} %", higher_is_better=True)
PERPLEXITY = Metric("perplexity", "nll", "{:.1f}".format, higher_is_better=False, transform=_exp)


class MetricsLog:
    """Appends to `metrics.jsonl`; keeps what is there up to step `resume_at`.

    Lines of later steps come from a run that went on after its last checkpoint; they are
    dropped, since these steps are made again.
    """

    def __init__(self, out: pathlib.Path, *, resume_at: int = 0):
        self.path = out / "metrics.jsonl"
        kept = [row for row in read_metrics(out) if row["step"] <= resume_at]
        temporary = self.path.with_suffix(".tmp")
        out.mkdir(parents=True, exist_ok=True)
        temporary.write_text("".join(map(_line, kept)))
        temporary.replace(self.path)

    def write(self, step: int, split: str, values: Mapping[str, Any]) -> None:
        """Appends one line; `values` are converted to float, and to null if they are not finite."""
        figures = {name: float(value) for name, value in values.items()}
        with self.path.open("a") as file:
            file.write(_line({"step": step, "split": split} | figures))

    def close(self) -> None:
        """Does nothing: every line is written at once."""


def read_metrics(out: pathlib.Path) -> list[dict[str, Any]]:
    """All lines of a run's log, null as NaN; a last line cut off by a crash is left out."""
    path = out / "metrics.jsonl"
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        rows.append({name: math.nan if v is None else v for name, v in row.items()})
    return rows


def _line(row: Mapping[str, Any]) -> str:
    number = lambda v: None if isinstance(v, float) and not math.isfinite(v) else v
    return json.dumps({name: number(value) for name, value in row.items()}) + "\n"
