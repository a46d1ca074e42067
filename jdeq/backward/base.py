"""What a backward is: it solves a problem and attaches derivatives to the outcome."""

import abc

from .._loop import Solution
from .._method import Method
from .._problem import Problem


class Backward(Method, abc.ABC):
    """A way to differentiate a solve. Implementations are frozen dataclasses.

    A pytree like a solver: arrays among the settings are values, all else is static.
    """

    @abc.abstractmethod
    def __call__(self, problem: Problem) -> Solution:
        """Solves `problem`; `z` and `states` of the outcome carry derivatives."""
