"""The options of a configuration on a command line."""

import argparse
import dataclasses
from typing import Any

from ._options import add_option, choices
from .config import DEQConfig


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
    values, accepted = vars(defaults or DEQConfig()), choices()
    groups: dict[str, Any] = {}
    for field in dataclasses.fields(DEQConfig):
        title = field.metadata["group"]
        if title not in groups:
            groups[title] = parser.add_argument_group(f"DEQ: {title}")
        add_option(groups[title], field, values[field.name], accepted.get(field.name, ()))
    return parser
