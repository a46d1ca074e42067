"""JSON that somebody else may have written."""

import json
import pathlib
from typing import Any

from zoo.files import read_bytes

DEPTH = 64  # of brackets in brackets; what this program writes has fewer than ten


def parse_json(content: str | bytes) -> Any:
    """A JSON value; raises `ValueError` for what is none, or is nested too deeply."""
    try:
        value = json.loads(content)
    except RecursionError as e:
        raise ValueError("nested too deeply") from e
    level = [value]
    for _ in range(DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return value
    raise ValueError("nested too deeply")


def read_json(path: pathlib.Path) -> Any:
    """That of a plain file.

    Raises:
        OSError: it cannot be read, or is no plain file.
        ValueError: as `parse_json`.
    """
    return parse_json(read_bytes(path))


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
