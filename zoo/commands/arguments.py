"""What the commands share in reading their arguments."""

import argparse
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from zoo.commands.model_argument import HELP
from zoo.errors import UserError
from zoo.plugins import add_plugin_option
from zoo.program_name import program_name
from zoo.registry import get_task
from zoo.task import Task

T = TypeVar("T")


def task_of(argv: Sequence[str]) -> Task:
    """The task named by the first argument."""
    return get_task(argv[0])


def wants_help(argv: Sequence[str]) -> bool:
    """Whether there is a `--help`."""
    return any(flag in argv for flag in HELP)


def first_pass(
    command: str,
    argv: Sequence[str],
    options: Sequence[str],
    flags: Sequence[str] = (),
    *,
    add_more: Callable[[Any], None] = lambda parser: None,
) -> tuple[Task, argparse.Namespace]:
    """Reads the few options on which the others depend: their defaults, and what may be named."""
    task = task_of(argv)
    parser = argparse.ArgumentParser(
        prog=f"{program_name()} {command} {task.name}", add_help=False, allow_abbrev=False
    )
    for name in options:
        parser.add_argument(name)
    for name in flags:
        parser.add_argument(name, action="store_true")
    add_more(parser)
    return task, parser.parse_known_args(argv[1:])[0]


def parser_of(command: str, task: Task) -> argparse.ArgumentParser:
    """The parser of a command for one model, with no options but `--plugin` yet."""
    parser = argparse.ArgumentParser(
        prog=f"{program_name()} {command} {task.name}", description=task.summary, allow_abbrev=False
    )
    add_plugin_option(parser)
    return parser


def add_resume_option(group: Any) -> None:
    """Adds `--resume`: None if it is not given, `"always"`, or `"auto"`."""
    group.add_argument(
        "--resume",
        nargs="?",
        const="always",
        choices=("always", "auto"),
        metavar="auto",
        help="continue the run in --out; with auto: if it has a checkpoint, else begin",
    )


def add_checkpoint_options(group: Any, *, required: bool = False) -> None:
    """Adds `--checkpoint` and `--best`."""
    text = "--out folder of a training run, for its newest checkpoint; or one of the checkpoints"
    group.add_argument(
        "--checkpoint", type=pathlib.Path, metavar="DIR", required=required, help=text
    )
    text = "take the checkpoint that was best when the run was evaluated, not the newest"
    group.add_argument("--best", action="store_true", help=text)


def add_data_option(group: Any) -> None:
    """Adds `--data`."""
    group.add_argument("--data", type=pathlib.Path, metavar="DIR", help="folder of the data set")


def valid(make: Callable[[], T]) -> T:
    """What `make` returns; settings that do not fit together are the user's mistake."""
    try:
        return make()
    except (TypeError, ValueError) as e:
        raise UserError(str(e)) from e


def make_folder(out: pathlib.Path) -> None:
    """Makes the output folder."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"--out {out}: {e.strerror}") from e
