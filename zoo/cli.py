"""The command line: `python -m zoo COMMAND MODEL [options]`."""

import argparse
import errno
import logging
import sys
from collections.abc import Callable, Sequence

from zoo.commands.logged import compare, plot
from zoo.commands.models import list_models
from zoo.commands.parity import parity
from zoo.commands.train import train
from zoo.commands.trained import evaluate, sample
from zoo.commands.weights import export_weights, import_weights
from zoo.errors import UserError
from zoo.plugins import load_plugins
from zoo.training.interrupt import Interrupted

COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "train": train,
    "eval": evaluate,
    "sample": sample,
    "parity": parity,
    "import": import_weights,
    "export": export_weights,
    "plot": plot,
    "compare": compare,
    "list": list_models,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the exit status is 0, 1 (parity not reached) or 2 (user's mistake)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="python -m zoo",
        description="Deep equilibrium models: train, evaluate, check against the originals.",
        epilog="`python -m zoo COMMAND MODEL --help` lists the options of a command.",
        allow_abbrev=False,
    )
    commands = "; ".join(f"{name}: {command.__doc__}" for name, command in COMMANDS.items())
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=commands)
    args = parser.parse_args(argv[:1])
    # what Orbax logs in the background comes back as an exception, too, and is said once
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    try:
        load_plugins(argv[1:])
        return COMMANDS[args.command](argv[1:])
    except UserError as e:
        print(f"python -m zoo {args.command}: error: {e}", file=sys.stderr)
        return 2
    except Interrupted as e:
        print(e, file=sys.stderr)
        return 0
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f"{e.filename}: " if e.filename else ""
        print(f"python -m zoo {args.command}: error: {where}{e.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; --resume continues from the last checkpoint", file=sys.stderr)
        return 130
