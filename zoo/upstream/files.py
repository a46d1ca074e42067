"""The files of a reference folder; what is wrong with one of them is said by name."""

import pathlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from zoo.arrays import load_arrays
from zoo.errors import UserError
from zoo.plain_json import read_json


class Arrays(dict[str, np.ndarray]):
    """Named arrays of one file; a name that is not there is the user's error."""

    def __init__(self, path: pathlib.Path):
        super().__init__(load_arrays(path))
        self.path = path

    def __missing__(self, name: str):
        raise UserError(f"{self.path}: no array named {name!r}")

    def under(self, prefix: str) -> dict[str, np.ndarray]:
        """Arrays whose name starts with `prefix`, without it."""
        found = {k.removeprefix(prefix): v for k, v in self.items() if k.startswith(prefix)}
        if not found:
            raise UserError(f"{self.path}: no arrays named {prefix}...")
        return found

    def like(
        self, got: Mapping[str, np.ndarray], ignores: Callable[[str], bool]
    ) -> dict[str, np.ndarray]:
        """All arrays but the ignored ones, once it is sure that `got` has the same names."""
        wanted = {name: value for name, value in self.items() if not ignores(name)}
        problems = [f"missing: {name}" for name in got if name not in wanted]
        problems += [f"unknown: {name}" for name in wanted if name not in got]
        if problems:
            raise UserError(f"{self.path}: {len(problems)} keys do not fit: {'; '.join(problems)}")
        return wanted


def read_config(path: pathlib.Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        UserError: the file is missing, or cannot be read; the text names it.
    """
    try:
        content = read_json(path)
    except FileNotFoundError as e:
        raise UserError(f"{path}: no such file") from e
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: {e}") from e
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object")
    return content


def check_fields(
    what: str, fields: Any, required: Collection[str], optional: Collection[str] = ()
) -> Mapping[str, Any]:
    """`fields`, a mapping with these keys; raises UserError naming what is missing or unknown."""
    if not isinstance(fields, Mapping):
        raise UserError(f"{what}: expected a JSON object")
    problems = [f"missing: {name}" for name in required if name not in fields]
    problems += [f"unknown: {n}" for n in fields if n not in required and n not in optional]
    if problems:
        raise UserError(f"{what}: {'; '.join(problems)}")
    return fields
