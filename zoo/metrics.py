"""The run's log: one JSON object per line."""

import json
import pathlib
from typing import Any


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
        temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
        temporary.replace(self.path)

    def write(self, step: int, split: str, values: dict[str, Any]) -> None:
        """Appends one line; `values` are converted to float."""
        row = {"step": step, "split": split} | {k: float(v) for k, v in values.items()}
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def read_metrics(out: pathlib.Path) -> list[dict[str, Any]]:
    """All lines of a run's log; a last line cut off by a crash is left out."""
    path = out / "metrics.jsonl"
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
