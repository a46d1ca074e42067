"""What a backward is: it solves a problem and attaches derivatives to the outcome."""

import abc

from .._loop import Solution
from .._problem import Problem


class Backward(abc.ABC):
    """A way to differentiate a solve. Implementations are frozen, hashable dataclasses."""

    @abc.abstractmethod
    def __call__(self, problem: Problem) -> Solution:
        """Solves `problem`; `z` and `states` of the outcome carry derivatives."""
