"""Frozen dataclasses of settings as command-line options."""

import argparse
import dataclasses
from typing import Any, TypeVar

T = TypeVar("T")


def option(default: Any, text: str) -> Any:
    """A dataclass field with a default and a help text for the command line."""
    return dataclasses.field(default=default, metadata={"help": text})


def from_data(default: Any) -> Any:
    """A dataclass field which follows from the data set, and so is no option."""
    return dataclasses.field(default=default, metadata={"cli": False})


def add_options(parser: argparse.ArgumentParser, title: str, defaults: Any) -> None:
    """Adds a group with one option per field of the dataclass instance `defaults`."""
    group = parser.add_argument_group(title)
    for field in _options(defaults):
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


def read_options(args: argparse.Namespace, defaults: T) -> T:
    """`defaults` with what the command line says; raises what the dataclass raises."""
    names = [field.name for field in _options(defaults)]
    given = {name: getattr(args, name) for name in names}
    return dataclasses.replace(
        defaults,  # pyright: ignore[reportArgumentType]
        **{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()},
    )


def to_dict(settings: Any) -> dict[str, Any]:
    """The fields as plain values for JSON."""
    plain = dataclasses.asdict(settings)
    return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}


def _options(settings: Any) -> list[dataclasses.Field]:
    return [f for f in dataclasses.fields(settings) if f.metadata.get("cli", True)]
