"""Options of a configuration: declared once, checked, and put on a command line."""

import argparse
import ast
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from ._named import suggest
from .gradients.registry import BACKWARDS
from .nn.norms import NORMS
from .solvers import Solver
from .solvers.registry import SOLVERS, resolve_solver

Pairs = tuple[tuple[str, Any], ...]
WORDS = {"true": True, "false": False, "none": None}


def option(default: Any, group: str, text: str, *, low: float | None = None, **cli: Any) -> Any:
    """A dataclass field that is an option.

    Args:
        default: its value; says its type, too.
        group: heading in `--help`.
        text: help.
        low: least value.
        **cli: for `add_argument`, where that cannot be told from the default; `alias` is another
            flag for it.
    """
    return dataclasses.field(
        default=default, metadata={"group": group, "help": text, "low": low, "cli": cli}
    )


def check(settings: Any, accepted: Mapping[str, Iterable[str]]) -> None:
    """Raises unless each option of the dataclass instance has the type of its default and is one
    of its `accepted` values, or at least `low`; the message names the option.
    """
    for field in dataclasses.fields(settings):
        name, value, default = field.name, getattr(settings, field.name), field.default
        if name in accepted:
            _check_choice(name, value, list(accepted[name]))
        elif isinstance(default, bool):
            if not isinstance(value, bool):
                raise TypeError(f"{name} must be True or False, got {value!r}")
        elif isinstance(default, int | float):
            for number in value if isinstance(value, tuple) else (value,):
                _check_number(name, number, type(default), field.metadata["low"])
        elif name.endswith("_options"):
            continue  # the solver knows
        elif not isinstance(value, tuple):
            raise TypeError(f"{name} must be a sequence of ints, got {value!r}")


def choices() -> dict[str, tuple[str, ...]]:
    """The accepted values of the options that have a list of them."""
    modes, solvers = ("abs", "rel"), tuple(SOLVERS.entries)
    return {
        "f_solver": solvers,
        "f_stop_mode": modes,
        "b_solver": solvers,
        "b_stop_mode": modes,
        "grad_type": ("auto", *BACKWARDS.entries),
        "core": ("indexing", "sliced"),
        "norm_type": ("none", *NORMS.entries),
    }


def parse_pairs(name: str, value: Any) -> Pairs:
    """Options of a solver as sorted pairs, from `"m=5,lam=1e-4"`, a mapping or pairs.

    Raises:
        ValueError, TypeError: it is nothing of the kind; the message begins with `name`.
    """
    usage = f"{name} takes options such as 'm=5,lam=1e-4', or a dict, got {value!r}"
    if isinstance(value, str):
        words = [word.partition("=") for word in value.split(",") if word.strip()]
        if not all(key.strip() and text.strip() for key, _, text in words):
            raise ValueError(usage)
        value = [(key.strip(), _literal(text.strip())) for key, _, text in words]
    try:
        pairs = list(value.items() if isinstance(value, Mapping) else value)
        made = dict(pairs)
    except (TypeError, ValueError):
        raise TypeError(usage) from None
    if len(made) < len(pairs):
        raise ValueError(f"{name} sets an option twice: {pairs}")
    for key, each in made.items():
        if not isinstance(key, str) or not isinstance(each, bool | int | float | str | None):
            raise TypeError(f"{name}: {key}={each!r} is not a number, a word, True, False or None")
    return tuple(sorted(made.items()))


def format_pairs(pairs: Pairs) -> str:
    """The inverse of `parse_pairs`."""
    return ",".join(f"{key}={value}" for key, value in pairs)


def configured_solver(
    side: str, name: str, named: dict[str, Any], configured: Any, options: dict[str, Any]
) -> Solver:
    """The solver of one side, "f" or "b"; a mistake in its `_options` is said to be there."""
    for key, _ in configured:
        if key in named:
            raise ValueError(f"{side}_options: set {key} by {side}_{key}")
    try:
        return resolve_solver(name, named | dict(configured) | options)
    except (TypeError, ValueError) as error:
        if not configured or options:
            raise
        raise type(error)(f"{side}_options {format_pairs(configured)!r}: {error}") from error


def add_option(group: Any, field: dataclasses.Field, value: Any, choices: Iterable[str]) -> None:
    """Adds a field made by `option`, with `value` where the command line is silent."""
    text, settings = field.metadata["help"], dict(field.metadata["cli"])
    flags = [f"--{field.name}"]
    if alias := settings.pop("alias", None):
        flags.append(f"--{alias}")
    if field.name.endswith("_options"):
        value = format_pairs(value)
        settings |= {"metavar": "NAME=VALUE,..."}
    elif isinstance(value, bool):
        settings["action"] = argparse.BooleanOptionalAction
    elif isinstance(field.default, tuple):
        settings |= {"type": int, "nargs": "*"}
    elif not isinstance(value, str):
        kind = type(field.default)
        settings = {"type": kind, "metavar": kind.__name__.upper()} | settings
    if choices:
        text += f": {', '.join(choices)}"
        settings["metavar"] = "NAME"
    shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
    settings["help"] = f"{text} (default: {'none' if shown == '' else shown})".replace("%", "%%")
    group.add_argument(*flags, default=value, dest=field.name, **settings)


def _check_choice(name: str, value: Any, choices: list[str]) -> None:
    if value not in choices:
        close = suggest(value, choices) if isinstance(value, str) else ""
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}{close}"
        )


def _check_number(name: str, value: Any, kind: type, low: float | None) -> None:
    if isinstance(value, bool) or not isinstance(value, int if kind is int else int | float):
        raise TypeError(f"{name} must be {'an int' if kind is int else 'a number'}, got {value!r}")
    if kind is int and low is not None and value < low:
        raise ValueError(f"{name} must be >= {low}, got {value}")
    if kind is float and low is not None and not value > low:
        raise ValueError(f"{name} must be > {low}, got {value!r}")


def _literal(text: str) -> Any:
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
