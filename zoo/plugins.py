"""Modules of the user's own, imported before options are read."""

import importlib
import importlib.util
import pathlib
import sys
import traceback
from typing import Any

from zoo.errors import UserError

PREFIX = "zoo_plugin_"  # so that a file called jax.py shadows nothing


def add_plugin_option(parser: Any) -> None:
    """Adds `--plugin`, which may be given several times."""
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module (my.module) or a file (my_module.py) first: what it registers with "
        "jdeq.register_solver, register_backward or register_norm can be named in other options; "
        "may be repeated",
    )


def load_plugin(name: str) -> None:
    """Imports a module by its dotted name or, if it ends in `.py`, by its path; once each.

    Raises:
        UserError: there is none, or the import raises; the text says where.
    """
    try:
        if name.endswith(".py"):
            _load_file(pathlib.Path(name))
        else:
            importlib.import_module(name)
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


def _load_file(path: pathlib.Path) -> None:
    if not path.is_file():
        raise UserError(f"--plugin {path}: there is no such file")
    path = path.resolve()
    name = PREFIX + path.stem
    if name in sys.modules and sys.modules[name].__file__ == str(path):
        return
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _raised(name: str, error: BaseException) -> str:
    """What went wrong inside the module, and at which of its lines."""
    own = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<")]
    at = f" ({pathlib.Path(own[-1].filename).name}, line {own[-1].lineno})"
    if own[-1].filename == __file__:  # a syntax error says itself where it is
        at = ""
    text = " ".join(str(error).split())
    return f"--plugin {name}: {type(error).__name__}: {text}{at}"
