"""Frozen dataclasses of settings as command-line options."""

import argparse
import dataclasses
from collections.abc import Collection
from typing import Any, TypeVar

T = TypeVar("T")


TRAIN = "train"


def option(default: Any, text: str, *, also: Collection[str] = ()) -> Any:
    """A dataclass field with a default and a help text for the command line.

    `also` names commands besides `train` that may change it.
    """
    metadata = {"help": text, "commands": (TRAIN, *also)}
    return dataclasses.field(default=default, metadata=metadata)


def from_data(default: Any) -> Any:
    """A dataclass field which follows from the data set, and so is no option."""
    return dataclasses.field(default=default, metadata={"commands": ()})


def add_options(
    parser: argparse.ArgumentParser, title: str, defaults: Any, *, command: str = TRAIN
) -> None:
    """Adds a group with one option per field of `defaults` that `command` may change."""
    group = parser.add_argument_group(title)
    for field in _options(defaults, command):
        value = getattr(defaults, field.name)
        shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
        kwargs: dict[str, Any] = {"help": f"{field.metadata['help']} (default: {shown})"}
        if isinstance(value, bool):
            kwargs["action"] = argparse.BooleanOptionalAction
        elif isinstance(value, tuple):
            kwargs |= {"type": type(value[0]) if value else int, "nargs": "*", "metavar": "N"}
        else:
            kwargs |= {"type": type(value), "metavar": type(value).__name__.upper()}
        group.add_argument(f"--{field.name}", default=value, **kwargs)


def read_options(args: argparse.Namespace, defaults: T, *, command: str = TRAIN) -> T:
    """`defaults` with what the command line says; raises what the dataclass raises."""
    names = [field.name for field in _options(defaults, command)]
    given = {name: getattr(args, name) for name in names}
    return dataclasses.replace(
        defaults,  # pyright: ignore[reportArgumentType]
        **{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()},
    )


def to_dict(settings: Any) -> dict[str, Any]:
    """The fields as plain values for JSON."""
    plain = dataclasses.asdict(settings)
    return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}


def _options(settings: Any, command: str) -> list[dataclasses.Field]:
    return [f for f in dataclasses.fields(settings) if command in f.metadata["commands"]]
