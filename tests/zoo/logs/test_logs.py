"""What is made of runs afterwards: their curves, a comparison, and a folder used again."""

import json
import math
import re

import pytest

from tests.zoo.test_cli import run
from tests.zoo.toy_lm import TASK, TEXT
from zoo.checkpoints.checkpoint import find_checkpoint
from zoo.logs.metrics import MetricsLog, read_metrics
from zoo.registry import PLUGGED

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two runs that differ in the learning rate."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "text").mkdir()
    (folder / "text/all.txt").write_text(TEXT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PLUGGED, "toy", TASK)
        for lr in (0.5, 0.25):
            argv = ("--data", folder / "text", "--out", folder / f"lr{lr}", "--lr", lr)
            assert run("train", "toy", *argv) == 0
    return folder


@pytest.mark.slow
def test_plot(two, toy, tmp_path, capsys):
    assert run("plot", two / "lr0.5", "--out", tmp_path / "a.png") == 0
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)
    assert run("plot", two / "lr0.5") == 0
    assert f"the curves are in {two / 'lr0.5/curves.png'}" in capsys.readouterr().out
    assert (two / "lr0.5/curves.png").read_bytes().startswith(PNG)


def test_compare(two, toy, tmp_path, capsys):
    names = [str(two / f"lr{lr}") for lr in (0.5, 0.25)]
    assert run("compare", *names, "--plot", tmp_path / "b.png") == 0
    shown = capsys.readouterr().out.splitlines()
    table = {line[:24].strip().split("  ")[0]: line.split("  ") for line in shown[:-1]}
    cells = lambda name: [cell.strip() for cell in table[name][1:] if cell.strip()]
    assert cells("run") == names
    assert cells("train.lr") == ["0.5", "0.25"] and "train.steps" not in table
    assert cells("steps made") == ["20", "20"]
    last = [read_metrics(two / f"lr{lr}")[-1] for lr in (0.5, 0.25)]
    assert cells("perplexity, last") == [f"{row['perplexity']:.1f}" for row in last]
    assert cells("converged") == ["100.0%", "100.0%"]
    assert all(re.fullmatch(r"[\d.]+ m?s", cell) for cell in cells("time per step"))
    assert (tmp_path / "b.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        ("plot /nowhere", "/nowhere: no such folder"),
        ("plot {empty}", "not the folder of a run"),
        ("plot {run} --out {run}/a.pdf", "expected a file ending in .png"),
        ("plot {run} --out {run}/no/a.png", "No such file or directory"),
        ("plot", "RUN"),
        ("compare", "RUN"),
        ("compare {run} /nowhere", "/nowhere: no such folder"),
        ("train toy --spectral_radius --out {empty}", "model 'toy' does not tell its equilibrium"),
        ("train toy --max_skips 0", "max_skips must be >= 1, got 0"),
        ("train toy --keep 0", "keep must be >= 1, got 0"),
    ],
)
def test_mistakes_are_named(argv, named, two, toy, tmp_path, capsys):
    assert run(*argv.format(run=two / "lr0.5", empty=tmp_path).split()) == 2
    assert named in capsys.readouterr().err


def test_a_log_survives_figures_that_are_not_finite(tmp_path):
    MetricsLog(tmp_path).write(1, "train", {"loss": math.inf, "accuracy": 0.5})
    MetricsLog(tmp_path, resume_at=1).write(2, "train", {"loss": 1})
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)  # no NaN, no Infinity
    first, second = read_metrics(tmp_path)
    assert math.isnan(first["loss"]) and first["accuracy"] == 0.5 and second["loss"] == 1


@pytest.mark.slow
def test_a_new_run_moves_an_earlier_one_aside(two, toy, tmp_path, capsys):
    out = tmp_path / "run"
    argv = ("train", "toy", "--data", two / "text", "--out", out, "--steps", 1)
    for _ in range(2):
        assert run(*argv) == 0
    assert f"the run that was there is now in {out / 'earlier-1'}" in capsys.readouterr().err
    for folder in (out, out / "earlier-1"):
        assert find_checkpoint(folder).step == 1
        assert [row["split"] for row in read_metrics(folder)] == ["train", "valid", "test"]
