"""Options on a command line."""

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

from ._pairs import format_pairs
from .config import DEQConfig
from .options import Option, Options, options_for

T = TypeVar("T", bound=Options)


def add_deq_args(
    parser: argparse.ArgumentParser, defaults: DEQConfig | None = None
) -> argparse.ArgumentParser:
    """Adds every option of `DEQConfig` to a command line, in groups.

    Args:
        parser: gets `--f_solver`, `--f_max_iter`, ...; flags for the booleans (`--ift`,
            `--no-ift`).
        defaults: values where the command line is silent.

    Returns:
        The same parser.

    Example:
        >>> import argparse, jdeq
        >>> parser = jdeq.add_deq_args(argparse.ArgumentParser())
        >>> args = parser.parse_args("--ift --f_solver anderson --b_solver broyden".split())
        >>> jdeq.DEQConfig.from_args(args).b_solver
        'broyden'
    """
    add_options(parser, defaults or DEQConfig(), "DEQ")
    return parser


def add_options(
    parser: argparse.ArgumentParser, defaults: Options, title: str, *, command: str | None = None
) -> None:
    """Adds the options to a command line, under `title`, a heading for each group of them.

    Args:
        parser: gets `--NAME` of each; flags `--NAME`, `--no-NAME` for booleans.
        defaults: values where the command line is silent.
        title: of the group, or what each group's heading begins with.
        command: which command it is of; only the options that it may change are added.
    """
    groups: dict[str, Any] = {}
    for each in options_for(type(defaults), command):
        heading = f"{title}: {each.heading}" if each.heading else title
        if heading not in groups:
            groups[heading] = parser.add_argument_group(heading)
        _add_option(groups[heading], each, getattr(defaults, each.name))


def read_options(args: argparse.Namespace, defaults: T, *, command: str | None = None) -> T:
    """`defaults` with what the command line of `add_options` says; raises as the class does."""
    given = {each.name: getattr(args, each.name) for each in options_for(type(defaults), command)}
    return dataclasses.replace(defaults, **given)


def _add_option(group: Any, declared: Option, value: Any) -> None:
    how: dict[str, Any] = {"type": declared.kind, "metavar": declared.kind.__name__.upper()}
    text, choices = declared.text, declared.accepted
    if choices:
        text, how["metavar"] = f"{text}: {', '.join(choices)}", "NAME"
    if declared.pairs:
        value, how["metavar"] = format_pairs(value), "NAME=VALUE,..."
    elif declared.many:
        how["nargs"] = declared.length or ("+" if declared.single else "*")
    elif declared.kind is bool:
        how = {"action": argparse.BooleanOptionalAction}
    if declared.optional:
        how["type"] = _or_none(declared.kind)
    if declared.metavar:
        how["metavar"] = declared.metavar
    shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
    shown = "none" if shown in ("", None) else shown
    shown = shown if str(shown).isprintable() else repr(shown)
    flags = [f"--{name}" for name in (declared.name, declared.alias) if name]
    text = f"{text} (default: {shown})".replace("%", "%%")
    group.add_argument(*flags, default=value, dest=declared.name, help=text, **how)


def _or_none(kind: type) -> Callable[[str], Any]:
    read = lambda word: None if word.lower() == "none" else kind(word)
    read.__name__ = kind.__name__  # argparse speaks of an invalid int
    return read
