"""How the command line begins: quickly, or with what is missing."""

import pathlib
import resource
import subprocess
import sys
import tomllib

import pytest

from zoo.cli import COMMANDS, main
from zoo.extra import NEEDED, missing_packages
from zoo.listing import counted, kept
from zoo.program_name import program_name
from zoo.registry import get_task, model_names

ROOT = pathlib.Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SLOW = ("jax", "flax", "numpy", "optax", "orbax", "sklearn", "matplotlib", "grain", "PIL")


def cpu_seconds(*argv: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert run.returncode == 0 and run.stdout, run.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("argv", ["list", "--help", "train --help", "list --help"])
def test_what_needs_no_model_takes_no_time(argv):
    assert cpu_seconds(sys.executable, "-m", "zoo", *argv.split()) < 2
    program = (
        "import sys; from zoo.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        f"assert not {set(SLOW)!r} & set(sys.modules), sys.modules.keys()"
    )
    cpu_seconds(sys.executable, "-c", program, *argv.split())


@pytest.mark.slow
@pytest.mark.parametrize("name", model_names())
def test_the_kept_listing_is_what_is_counted(name):
    expected = counted(get_task(name))
    assert kept(name) == expected, f"zoo/{name}/listing.txt should be:\n{expected}"


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("argv", ["", "list", "--help", "train mdeq", "train mdeq --help"])
def test_without_the_extra_one_line_says_what_to_install(name, argv, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    assert missing_packages() == [name]
    assert main(argv.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f'the zoo needs {name}: pip install "jdeq[zoo]"' in line


def test_the_extra_has_what_is_needed():
    installed = {"sklearn": "scikit-learn", "PIL": "pillow", "orbax": "orbax-checkpoint"}
    extra = [each.split(">=")[0] for each in PROJECT["optional-dependencies"]["zoo"]]
    assert {installed.get(name, name) for name in NEEDED} <= set(extra)


def test_nothing_of_the_extra_is_needed_to_say_so():
    """In a Python that has the library's own dependencies only."""
    program = f"""
import sys
for name in {NEEDED!r}:
    sys.modules[name] = None
sys.argv = ["zoo", "list"]
import runpy
runpy.run_module("zoo", run_name="__main__")
"""
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2 and len(run.stderr.splitlines()) == 1
    assert 'pip install "jdeq[zoo]"' in run.stderr


def test_there_is_a_script_for_whoever_has_a_zoo(monkeypatch, capsys):
    assert PROJECT["scripts"] == {"jdeq-zoo": "zoo.cli:main"}
    monkeypatch.setattr(sys, "argv", ["/usr/bin/jdeq-zoo"])
    assert program_name() == "jdeq-zoo"
    assert main(["train"]) == 2
    assert capsys.readouterr().err.startswith("jdeq-zoo train: error: expected a model")


def test_every_command_is_where_it_is_said_to_be():
    import importlib

    for command in COMMANDS.values():
        assert callable(
            getattr(importlib.import_module(f"zoo.commands.{command.module}"), command.function)
        )


def test_a_reader_that_has_seen_enough():
    run = subprocess.run(
        f"{sys.executable} -m zoo list | head -c 5", shell=True, cwd=ROOT, capture_output=True
    )
    assert run.stdout == b"ignn:" and not run.stderr
