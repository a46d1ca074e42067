"""The log of a run: one JSON object per line."""

import json
import math
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

from zoo.errors import UserError
from zoo.files import read_bytes, replacing
from zoo.folder import RunFolder
from zoo.plain_json import parse_json


class MetricsLog:
    """Appends to `metrics.jsonl`; keeps what is there up to step `resume_at`.

    Lines of later steps come from a run that went on after its last checkpoint; they are
    dropped, since these steps are made again.
    """

    def __init__(self, out: pathlib.Path, *, resume_at: int = 0):
        self.path = RunFolder(out).metrics
        kept = [row for row in read_metrics(out) if row["step"] <= resume_at]
        out.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as file:
            file.writelines(map(_line, kept))

    def write(self, step: int, split: str, values: Mapping[str, Any]) -> None:
        """Appends one line; `values` are converted to float, and to null if they are not finite."""
        figures = {name: float(value) for name, value in values.items()}
        with self.path.open("a") as file:
            file.write(_line({"step": step, "split": split} | figures))

    def close(self) -> None:
        """Does nothing: every line is written at once."""


def read_metrics(out: pathlib.Path) -> list[dict[str, Any]]:
    """All lines of a run's log, null as NaN; a last line cut off by a crash is left out.

    Raises:
        UserError: the file cannot be read, or a line is not one of a log; names the line.
    """
    path = RunFolder(out).metrics
    if not path.exists():
        return []
    try:
        lines = read_bytes(path).splitlines(keepends=True)
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror})") from e
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(_row(line))
        except ValueError as e:
            if number == len(lines) and not line.endswith(b"\n"):
                break
            raise UserError(f"{path}, line {number}: not a line of a log ({e})") from e
    return rows


def _row(line: bytes) -> dict[str, Any]:
    """Raises ValueError unless it is an object with a step, a split, and figures by name."""
    row = parse_json(line)
    if not isinstance(row, dict):
        raise ValueError("no JSON object")
    row = {name: math.nan if value is None else value for name, value in row.items()}
    if type(row.get("step")) is not int or not 0 <= row["step"] < 2**53:
        raise ValueError("no step")
    if not isinstance(row.get("split"), str):
        raise ValueError("no split")
    for name, value in row.items():
        if name not in ("step", "split"):
            if type(value) not in (int, float) or abs(value) > sys.float_info.max:
                raise ValueError(f"{name[:80]!r} is no number")
    return row


def _line(row: Mapping[str, Any]) -> str:
    number = lambda v: None if isinstance(v, float) and not math.isfinite(v) else v
    return json.dumps({name: number(value) for name, value in row.items()}) + "\n"
