"""What a section is told, and what it makes."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from benchmarks.speed.timing import Effort

Row = dict[str, Any]
Job = tuple[str, Callable[[], list[Row]]]  # rows that are measured together
Jobs = Iterator[Job]


class Skip(Exception):
    """A job cannot be done here; says why."""


@dataclasses.dataclass(frozen=True)
class Context:
    """Args:
    device: "cuda" or "cpu", as torch calls it.
    effort: how long to measure what takes turns.
    quick: tiny sizes, to see that everything runs.
    seconds_left: until the section is to end.
    data: folder of CIFAR-10, if there is one.
    found: rows that are there already, by section.
    """

    device: str
    effort: Effort
    quick: bool
    seconds_left: Callable[[], float]
    data: pathlib.Path | None
    found: Mapping[str, list[Row]]
