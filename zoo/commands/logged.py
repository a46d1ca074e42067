"""`python -m zoo plot` and `compare`: what runs have logged, finished or going on."""

import argparse
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.errors import UserError
from zoo.folder import RunFolder
from zoo.logs.comparison import LoggedRun, comparison
from zoo.logs.plots import plot_runs
from zoo.plugins import add_plugin_option
from zoo.program_name import program_name


def plot(argv: Sequence[str]) -> int:
    """Draws the curves of a run; the exit status."""
    parser = argparse.ArgumentParser(prog=f"{program_name()} plot", allow_abbrev=False)
    parser.add_argument("run", type=pathlib.Path, metavar="RUN", help="--out folder of a run")
    text = "PNG to be written (RUN/curves.png)"
    parser.add_argument("--out", type=pathlib.Path, metavar="FILE", help=text)
    add_plugin_option(parser)
    args = parser.parse_args(argv)
    run = LoggedRun.read(args.run)
    _draw(args.out or RunFolder(args.run).curves, [run])
    return 0


def compare(argv: Sequence[str]) -> int:
    """Sets runs beside each other, their settings and figures; the exit status."""
    parser = argparse.ArgumentParser(prog=f"{program_name()} compare", allow_abbrev=False)
    text = "--out folders of runs"
    parser.add_argument("runs", type=pathlib.Path, nargs="+", metavar="RUN", help=text)
    text = "also draw their curves into one PNG"
    parser.add_argument("--plot", type=pathlib.Path, metavar="FILE", help=text)
    add_plugin_option(parser)
    args = parser.parse_args(argv)
    runs = [LoggedRun.read(out) for out in args.runs]
    print(comparison(runs))
    if args.plot is not None:
        _draw(args.plot, runs)
    return 0


def _draw(path: pathlib.Path, runs: Sequence[LoggedRun]) -> None:
    if path.suffix != ".png":
        raise UserError(f"{path}: expected a file ending in .png")
    rows: Mapping[str, Any] = {run.name: run.rows for run in runs}
    try:
        plot_runs(path, rows, runs[0].figures)
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}") from e
    print(f"the curves are in {path}")
