"""Checks of arguments: a mistake is told by name, with its value and what would be right."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, core

from ._method import is_array
from ._named import suggest


class Bounds(NamedTuple):
    """A range of numbers: `low` and `high` belong to it, `above` and `below` do not."""

    low: float | None = None
    above: float | None = None
    high: float | None = None
    below: float | None = None

    def hold(self, value: float) -> bool:
        """Whether the value is inside; NaN is not, where there is a bound."""
        return (
            (self.low is None or value >= self.low)
            and (self.above is None or value > self.above)
            and (self.high is None or value <= self.high)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        below = f">= {self.low}" if self.above is None else f"> {self.above}"
        above = f"<= {self.high}" if self.below is None else f"< {self.below}"
        if self.high is None and self.below is None:
            return below
        if self.low is None and self.above is None:
            return above
        opening = f"[{self.low}" if self.above is None else f"({self.above}"
        closing = f"{self.high}]" if self.below is None else f"{self.below})"
        return f"in {opening}, {closing}"


def check_int(name: str, value: Any, **bounds: float | None) -> None:
    """Raises unless `value` is a Python integer within `Bounds(**bounds)`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {value!r}")
    _check_bounds(name, value, Bounds(**bounds))


def whole_number(name: str, value: Any) -> int | Array | None:
    """A number of iterations: a Python int, a () integer array for run time, or None.

    Raises:
        TypeError: it is something else; True and False are not numbers here.
        ValueError: the array has axes.
    """
    if value is None:
        return None
    if isinstance(value, np.integer):
        return int(value)
    if is_array(value) and jnp.issubdtype(value.dtype, jnp.integer):
        if value.ndim:
            raise ValueError(f"{name} must be one integer, got an array of shape {value.shape}")
        return jnp.asarray(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {value!r}")
    return value


def check_number(name: str, value: Any, **bounds: float | None) -> None:
    """Raises unless `value` is a Python number within `Bounds(**bounds)`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {value!r}")
    _check_bounds(name, value, Bounds(**bounds))


def check_bool(name: str, value: Any) -> None:
    """Raises unless `value` is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def check_text(name: str, value: Any) -> None:
    """Raises unless `value` is a string."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {value!r}")


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Raises unless `value` is one of the choices; a close one is suggested."""
    choices = list(choices)
    if value not in choices:
        words = [each for each in choices if isinstance(each, str)]
        close = suggest(value, words) if isinstance(value, str) else ""
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}{close}"
        )


def check_either(name: str, value: Any, one: Any, other: Any) -> None:
    """Raises unless `value` is one of the two."""
    if value not in (one, other):
        raise ValueError(f"{name} must be {one!r} or {other!r}, got {value!r}")


def check_scalar(name: str, value: Any, **bounds: float | None) -> None:
    """As `check_number`, but a () array will do too; of a traced one the value is not checked."""
    if not is_array(value):
        check_number(name, float(value) if isinstance(value, np.generic) else value, **bounds)
        return
    if value.ndim or not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(
            f"{name} must be one number, got an array {value.dtype}{list(value.shape)}"
        )
    if not isinstance(value, core.Tracer):
        _check_bounds(name, float(value), Bounds(**bounds))


def check_tau(tau: float | Array) -> None:
    """Raises unless 0 < tau <= 2: beyond, no real spectrum below 1 contracts."""
    check_scalar("tau", tau, above=0, high=2)


def check_history_dtype(name: str | None) -> None:
    """Raises unless `name` is None or a floating type of at most 32 bits."""
    check_choice("history_dtype", name, ("float32", "bfloat16", "float16", None))


def _check_bounds(name: str, value: float, bounds: Bounds) -> None:
    if not bounds.hold(value):
        raise ValueError(f"{name} must be {bounds}, got {value!r}")
