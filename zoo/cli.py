"""The command line: `python -m zoo COMMAND MODEL [options]`, or `jdeq-zoo`."""

import argparse
import importlib
import io
import logging
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from zoo.commands.model_argument import usage_without_model
from zoo.errors import Interrupted, UserError
from zoo.extra import NEEDED, missing_packages, what_to_do
from zoo.interrupts import SecondInterrupt
from zoo.plugins import load_plugins
from zoo.program_name import program_name


class Command(NamedTuple):
    """Where the function of a command is; imported only if it is called."""

    module: str
    function: str
    text: str
    takes_model: bool = True


COMMANDS = {
    "train": Command("train", "train", "train a model"),
    "eval": Command("trained", "evaluate", "evaluate a checkpoint on the test data"),
    "sample": Command("trained", "sample", "draw from a trained model"),
    "parity": Command("parity", "parity", "compare with a reference folder"),
    "import": Command("weights", "import_weights", "make a checkpoint of a PyTorch state dict"),
    "export": Command("weights", "export_weights", "write a state dict, or a program of its own"),
    "plot": Command("logged", "plot", "draw the curves of a run", False),
    "compare": Command("logged", "compare", "set runs beside each other", False),
    "list": Command("models", "list_models", "models, presets, parameter counts and data", False),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the exit status is 0, 1 (parity not reached) or 2 (user's mistake)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):  # names of files may be no text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if missing := missing_packages():
        print(f"{program_name()}: error: {what_to_do(missing)}", file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser(
        prog=program_name(),
        description="Deep equilibrium models: train, evaluate, check against the originals.",
        epilog=f"`{program_name()} COMMAND MODEL --help` lists the options of a command.",
        allow_abbrev=False,
    )
    texts = "; ".join(f"{name}: {command.text}" for name, command in COMMANDS.items())
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=texts)
    name = parser.parse_args(argv[:1]).command
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # what Orbax logs is raised, too
    again = "; --resume goes on from the last checkpoint" if name == "train" else ""
    stopped = f"interrupted{again}"
    try:
        with SecondInterrupt(stopped):
            return _run(name, argv[1:])
    except Interrupted as e:
        print(e, file=sys.stderr)
        return 0
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except Exception as e:
        text = _one_line(e)
        if text is None:
            raise
        print(f"{program_name()} {name}: error: {text}", file=sys.stderr)
        return 2


def _run(name: str, argv: Sequence[str]) -> int:
    if any("\0" in word for word in argv):
        raise UserError("an argument has a NUL character, which nothing can be called")
    command = COMMANDS[name]
    load_plugins(argv)
    if command.takes_model and (usage := usage_without_model(name, argv)) is not None:
        print(usage)
        return 0
    module = importlib.import_module(f"zoo.commands.{command.module}")
    return getattr(module, command.function)(argv)


def _one_line(error: Exception) -> str | None:
    """What there is to say of an error that is not one of this program; None: it is."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in NEEDED:
        return what_to_do([str(error.name)])
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:  # the latter is JAX's
        return f"not enough memory: smaller sizes or batches would do ({text[:200]})"
    return None
