"""What a section of the benchmark is told."""

import dataclasses
from collections.abc import Callable, Sequence

from .runs import Library
from .timing import Effort


@dataclasses.dataclass(frozen=True)
class Context:
    """Args:
    libraries: that take part.
    effort: how long to measure each row.
    quick: tiny sizes, to see that everything runs.
    wanted: whether the row of this name is asked for, and not there yet.
    """

    libraries: Sequence[Library]
    effort: Effort
    quick: bool
    wanted: Callable[[str], bool]
