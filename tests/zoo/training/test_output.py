"""What a run prints where nobody looks at a terminal, and what it draws."""

import json
import re

import numpy as np
import pytest

from tests.zoo.test_cli import TINY_OPTIONS, run
from tests.zoo.toy_lm import TEXT
from zoo.checkpoints.checkpoint import find_checkpoint
from zoo.figures import ACCURACY
from zoo.logs.plots import SolveTrace, plot_runs, smoothed
from zoo.pictures import Pictures

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    (folder / "all.txt").write_text(TEXT)
    return folder


def test_a_file_tells_the_whole_run_each_line_once(toy, text, tmp_path, capsys):
    out = tmp_path / "run"
    argv = ("train", "toy", "--data", text, "--out", out)
    assert run(*argv, "--stop_after", 7) == 0
    assert run("train", "toy", "--data", text, "--out", out, "--resume") == 0
    shown, errors = capsys.readouterr()
    assert not errors
    lines = shown.splitlines()
    begin = [i for i, line in enumerate(lines) if line.startswith("model ")]
    first, second = lines[: begin[1]], lines[begin[1] :]
    for part in (first, second):
        assert len(set(part)) == len(part)
        assert re.fullmatch(
            r"model    toy \(recurrent language model\), \d+ trained parameters", part[0]
        )
        assert part[1] == "preset   quick, 20 steps of 4 rows"
        assert part[2].startswith("solver   ") and part[3] == "data     characters"
        assert re.fullmatch(r"devices  1 x \w+", part[4]) and part[5] == f"folder   {out}"
        assert part.count("compiling the step") == 1
    steps = lambda part: re.findall(r"^step (\d+)/20: loss", "\n".join(part), re.M)
    assert steps(first) == ["1", "5", "7"] and steps(second) == ["10", "15", "20"]
    assert re.search(r"^step 1/20: .*, compiled in [\d.]+ s$", shown, re.M)
    assert re.search(r"^step 8/20: compiled in [\d.]+ s$", shown, re.M)
    assert second[6] == "resumed from step 7"
    assert lines[-4:-1] == [
        f"log         {out / 'metrics.jsonl'}",
        f"picture     {out / 'training.png'}",
        f"checkpoints {out / 'checkpoints'} (10, 20)",
    ]
    assert lines[-1].startswith("test perplexity")
    assert find_checkpoint(out).step == 20
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    train = [row for row in rows if row["split"] == "train"]
    assert [row["step"] for row in train] == [1, 5, 7, 10, 15, 20]
    capsys.readouterr()


def test_in_a_terminal_there_is_a_bar_instead(toy, text, tmp_path, capsys, monkeypatch):
    for stream in ("sys.stdout", "sys.stderr"):
        monkeypatch.setattr(f"{stream}.isatty", lambda: True, raising=False)
    assert run("train", "toy", "--data", text, "--out", tmp_path / "run") == 0
    shown, errors = capsys.readouterr()
    assert re.findall(r"^step (\d+)/20: loss", shown, re.M) == ["1"]
    assert "20/20" in errors


def test_an_unrolled_model_says_so_and_counts_its_steps(tmp_path, capsys):
    out = tmp_path / "run"
    argv = ("train", "mdeq", *TINY_OPTIONS, "--f_max_iter", 0, "--grad", 3, "--out", out)
    assert run(*argv) == 0
    assert run("eval", "mdeq", "--checkpoint", out) == 0
    shown = capsys.readouterr().out
    assert "solver   unrolled: 3 steps, no solver" in shown
    assert re.search(r"^step 2/2: loss .*unrolled 3 steps", shown, re.M)
    assert "NFE" not in shown and "converged" not in shown
    assert shown.splitlines()[-1].endswith(", unrolled: 3 steps, no solver)")
    for line in (out / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert row["nfe"] == 3 and "converged" not in row


def panels(monkeypatch, tmp_path, *args):
    """The axes of a picture, which is also written."""
    import matplotlib.figure

    made = []
    figure = matplotlib.figure.Figure
    monkeypatch.setattr(
        "matplotlib.figure.Figure", lambda **options: made.append(figure(**options)) or made[0]
    )
    plot_runs(tmp_path / "a.png", *args)
    return made[0]


def rows(n: int):
    noise = np.random.default_rng(0).normal(size=n)
    train = [
        {
            "step": 10 * i,
            "split": "train",
            "loss": 9 + x,
            "accuracy": 0.5,
            "residual": 1e-3,
            "nfe": 7,
        }
        for i, x in enumerate(noise)
    ]
    test = {"split": "test", "loss": 1.0, "accuracy": 0.5, "residual": 1e-3, "nfe": 7.5}
    return train + [test | {"step": 10 * i} for i in range(0, n, 10)]


def test_the_picture(monkeypatch, tmp_path):
    trace = SolveTrace(np.geomspace(1, 1e-3, 12)[None] * np.ones((5, 1)), "rel", 1e-2)
    pictures = Pictures(
        np.random.default_rng(0).normal(size=(28, 8, 8, 1)), ["1"] * 28, ["1", "2"] * 14
    )
    figure = panels(monkeypatch, tmp_path, {"run": rows(100)}, ACCURACY, trace, pictures)
    axes = figure.axes
    assert [a.get_title() for a in axes[:5]] == [
        "Loss",
        "Accuracy",
        "Relative residual",
        "Evaluations of f",
        "Solver on the test set",
    ]
    assert {a.get_subplotspec().rowspan.start for a in axes} == {0, 1} and len(axes) == 6
    width, height = figure.get_size_inches()
    assert width / height < 2  # it is seen as a whole
    figure.canvas.draw()
    for a in [*(each.xaxis for each in axes[:5]), axes[3].yaxis]:
        assert all(tick == round(tick) for tick in a.get_majorticklocs())
    points, curve = axes[0].get_lines()[:2]
    spread = lambda line: np.std(np.diff(line.get_ydata()))
    assert points.get_alpha() < 1 and spread(curve) < spread(points) / 3
    for legend in (figure.legends[0], axes[4].get_legend()):
        box = legend.get_window_extent()
        assert not any(box.overlaps(a.get_window_extent()) for a in axes[:5])
    texts = [t.get_text() for t in axes[5].texts]
    assert len(texts) == 28 and texts[:2] == ["1", "2 (1)"]
    assert [t.get_color() for t in axes[5].texts][:2] == ["black", "red"]


def test_pictures_of_little(monkeypatch, tmp_path):
    for n in (0, 1, 2):
        panels(monkeypatch, tmp_path, {"run": rows(n)}, ACCURACY)
        assert (tmp_path / "a.png").stat().st_size


def test_smoothing_leaves_out_what_is_no_number():
    values = np.full(60, 2.0)
    values[::7] = np.nan
    assert np.array_equal(smoothed(values), np.full(60, 2.0))
    assert np.isnan(smoothed(np.full(3, np.nan))).all()
