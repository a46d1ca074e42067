"""The log of a run: one JSON object per line."""

import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

from zoo.folder import RunFolder


class MetricsLog:
    """Appends to `metrics.jsonl`; keeps what is there up to step `resume_at`.

    Lines of later steps come from a run that went on after its last checkpoint; they are
    dropped, since these steps are made again.
    """

    def __init__(self, out: pathlib.Path, *, resume_at: int = 0):
        self.path = RunFolder(out).metrics
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
    path = RunFolder(out).metrics
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
