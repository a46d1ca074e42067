"""Models outside the tree, on every command; nothing in the zoo knows them."""

import json
import pathlib
import sys

import jax
import numpy as np
import pytest

import zoo
from tests.zoo.test_cli import run
from zoo.logs.metrics import read_metrics

MODELS = {  # the module to plug in, the figure, its least value
    "graph": ("tests.zoo.plugged_in.graph.task", "micro-F1", 0.8),
    "waves": ("tests.zoo.plugged_in.waves.task", "PSNR", 15.0),
}


@pytest.fixture(params=MODELS)
def model(request, monkeypatch):
    """A model by name, as if nothing had been plugged in."""
    monkeypatch.setattr("zoo.registry.PLUGGED", {})
    return request.param


@pytest.mark.slow
def test_it_does_what_all_models_do(model, tmp_path, capsys):
    plugin, figure, least = MODELS[model]
    out, again = tmp_path / "run", tmp_path / "again"

    def does(command, *argv):
        assert run(*command.split(), *argv, "--plugin", plugin) == 0
        return capsys.readouterr().out

    assert f"{model}: " in does("list") and "quick" in does("list")
    assert "--width" in does(f"train {model} --help")
    does(f"train {model}", "--out", out)
    does(f"train {model}", "--out", again, "--stop_after", "20")
    does(f"train {model}", "--out", again, "--resume")
    rows = read_metrics(out)
    tests = [row for row in rows if row["split"] == "test"]
    assert tests[-1][figure] > max(least, tests[0][figure])  # it learns
    assert [row[figure] for row in read_metrics(again)] == [row[figure] for row in rows]
    assert f"test {figure} " in does(f"eval {model}", "--checkpoint", out)
    does("plot", out)
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert f"{figure}, last" in does("compare", out, again)
    does(f"export {model}", tmp_path / "a.stablehlo", "--checkpoint", out)
    program = jax.export.deserialize(bytearray((tmp_path / "a.stablehlo").read_bytes()))
    made, residual = program.call(*(np.zeros((3, *a.shape[1:]), a.dtype) for a in program.in_avals))
    assert len(made) == len(residual) == 3
    does(f"export {model}", tmp_path / "a.npz", "--checkpoint", out)
    does(f"import {model}", tmp_path / "a.npz", "--out", tmp_path / "imported")
    does(f"export {model}", tmp_path / "b.npz", "--checkpoint", tmp_path / "imported")
    one, two = np.load(tmp_path / "a.npz"), np.load(tmp_path / "b.npz")
    assert "encode.weight" in one and sorted(one) == sorted(two)
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_without_its_plugin_it_is_unknown(model, tmp_path, capsys):
    assert run("train", model) == 2
    error = capsys.readouterr().err
    assert f"unknown model '{model}': choose from ignn, lm, mdeq" in error


def test_what_it_has_not_is_said(model, tmp_path, capsys):
    plugin = ("--plugin", MODELS[model][0])
    assert run("sample", model, "--help", *plugin) == 2
    assert f"nothing to sample from model '{model}'" in capsys.readouterr().err
    assert run("parity", model, tmp_path, *plugin) == 2
    assert f"model '{model}' has no PyTorch original" in capsys.readouterr().err
    (tmp_path / "config.json").write_text(json.dumps({"upstream_config": {}}))
    argv = ("state.npz", "--config", tmp_path / "config.json", "--out", tmp_path / "out")
    assert run("import", model, *argv, *plugin) == 2
    assert f"model '{model}' has no PyTorch original" in capsys.readouterr().err


def test_no_shared_file_knows_them():
    for path in pathlib.Path(zoo.__file__).parent.glob("**/*.py"):
        text = path.read_text()
        assert "plugged_in" not in text and "micro_f1" not in text, path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("TASK = 3", "expected a zoo.task.Task, got 3"),
        (
            "import dataclasses, zoo.mdeq.task as t\nclass Mine(t.MDEQTask): pass\nTASK = Mine()",
            "there is a model 'mdeq' already",
        ),
        (
            "import zoo.task\nclass Mine(zoo.task.Task): name = 'mine'\nTASK = Mine()",
            "Can't instantiate abstract class Mine",
        ),
    ],
)
def test_a_task_that_is_none(text, said, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("zoo.registry.PLUGGED", {})
    path = tmp_path / "plugin_of_a_test.py"
    path.write_text(text)
    assert run("list", "--plugin", path) == 2
    error = capsys.readouterr().err
    assert said in error and f"--plugin {path}: " in error and error.count("\n") == 1
    sys.modules.pop("zoo_plugin_plugin_of_a_test", None)
