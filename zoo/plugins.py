"""Modules of the user's own, imported before model and options are read."""

import argparse
import importlib
import importlib.util
import pathlib
import sys
import traceback
import types
from collections.abc import Sequence
from typing import Any

from zoo.errors import UserError
from zoo.program_name import program_name
from zoo.registry import register_task

PREFIX = "zoo_plugin_"  # so that a file called jax.py shadows nothing


def add_plugin_option(parser: Any) -> None:
    """Adds `--plugin`, which may be given several times."""
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module (my.module) or a file (my_module.py) first: what it registers with "
        "jdeq.register_solver, register_backward or register_norm can be named in other options, "
        "and its TASK is one more MODEL; may be repeated",
    )


def load_plugins(argv: Sequence[str]) -> None:
    """Imports all that the arguments of a command name; raises as `load_plugin`."""
    parser = argparse.ArgumentParser(prog=program_name(), add_help=False, allow_abbrev=False)
    add_plugin_option(parser)
    for name in parser.parse_known_args(argv)[0].plugin:
        load_plugin(name)


def load_plugin(name: str) -> None:
    """Imports a module by its dotted name or, if it ends in `.py`, by its path; once each.

    If it has a `TASK`, that is a model from now on.

    Raises:
        UserError: there is none, the import raises, or the model cannot be added; the text says
            where.
    """
    module = _imported(name)
    try:
        if hasattr(module, "TASK"):
            register_task(module.TASK)
    except UserError as e:
        raise UserError(f"--plugin {name}: {e}") from e


def _imported(name: str) -> types.ModuleType:
    try:
        if name.endswith(".py"):
            return _load_file(pathlib.Path(name))
        return importlib.import_module(name)
    except UserError:
        raise
    except ModuleNotFoundError as e:
        if e.name and (name == e.name or name.startswith(f"{e.name}.")):
            raise UserError(
                f"--plugin {name}: there is no module {e.name!r} on the path of Python; a file is "
                f"given with its ending, {name}.py"
            ) from e
        raise UserError(_raised(name, e)) from e
    except (Exception, SystemExit) as e:  # whatever the user's module does wrong
        raise UserError(_raised(name, e)) from e


def _load_file(path: pathlib.Path) -> types.ModuleType:
    if not path.is_file():
        raise UserError(f"--plugin {path}: there is no such file")
    path = path.resolve()
    name = PREFIX + path.stem
    if name in sys.modules and sys.modules[name].__file__ == str(path):
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _raised(name: str, error: BaseException) -> str:
    """What went wrong inside the module, and at which of its lines."""
    own = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<")]
    at = f" ({pathlib.Path(own[-1].filename).name}, line {own[-1].lineno})"
    if own[-1].filename == __file__:  # a syntax error says itself where it is
        at = ""
    text = " ".join(str(error).split())
    return f"--plugin {name}: {type(error).__name__}: {text}{at}"
