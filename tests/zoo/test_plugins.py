"""A user's own modules on the command line."""

import sys

import pytest

from jdeq.solvers.registry import SOLVERS
from tests.zoo.test_cli import run

GOOD = """
import jdeq
jdeq.register_solver("mine", jdeq.Anderson)
"""


@pytest.fixture(autouse=True)
def somewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(SOLVERS, "entries", dict(SOLVERS.entries))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("zoo_plugin_", "plugin_of_a_test")):
            del sys.modules[name]


@pytest.mark.parametrize("plugin", ["plugin_of_a_test.py", "plugin_of_a_test"])
def test_a_file_or_a_module(plugin, tmp_path, capsys):
    (tmp_path / "plugin_of_a_test.py").write_text(GOOD)
    command = "train mdeq --f_solver mine --help".split()
    for _ in range(2):  # one process may run several commands: it is imported once
        assert run(*command, "--plugin", plugin) == 0
    assert "newton, fallback, auto, gmres, bicgstab, cg, neumann, mine" in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.mark.parametrize(
    "text, plugin, said",
    [
        ("", "elsewhere.py", "--plugin elsewhere.py: there is no such file"),
        ("", "elsewhere", "no module 'elsewhere' on the path of Python; a file is given with"),
        (
            "import nowhere",
            "plugin_of_a_test.py",
            "No module named 'nowhere' (plugin_of_a_test.py, l",
        ),
        (
            "x = = 1",
            "plugin_of_a_test.py",
            "SyntaxError: invalid syntax (plugin_of_a_test.py, line 1",
        ),
        ("\n1 / 0", "plugin_of_a_test.py", "ZeroDivisionError: division by zero (plugin_of_a_test"),
        ("exit(3)", "plugin_of_a_test.py", "SystemExit: 3"),
        (GOOD.replace("mine", "cg"), "plugin_of_a_test.py", "solver 'cg' is registered already"),
    ],
)
def test_mistakes_are_one_line(text, plugin, said, tmp_path, capsys):
    (tmp_path / "plugin_of_a_test.py").write_text(text)
    assert run("train", "mdeq", "--plugin", plugin) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and "Traceback" not in error
