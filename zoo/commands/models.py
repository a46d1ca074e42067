"""`python -m zoo list`."""

import argparse
from collections.abc import Sequence

from zoo.listing import counted, kept
from zoo.plugins import add_plugin_option
from zoo.program_name import program_name
from zoo.registry import get_task, model_names


def list_models(argv: Sequence[str]) -> int:
    """Lists models, presets, parameter counts and data; the exit status."""
    parser = argparse.ArgumentParser(prog=f"{program_name()} list", allow_abbrev=False)
    text = "count the parameters now: models of the zoo come with a list, which takes no time"
    parser.add_argument("--count", action="store_true", help=text)
    add_plugin_option(parser)
    args = parser.parse_args(argv)
    for name in model_names():
        listing = None if args.count else kept(name)
        print(counted(get_task(name)) if listing is None else listing)
    return 0
