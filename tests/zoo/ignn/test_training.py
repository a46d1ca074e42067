import numpy as np
import pytest

from tests.zoo.test_cli import run
from zoo.logs.metrics import read_metrics

CHAINS = ("train", "ignn", "--steps", 40, "--eval_every", 40, "--save_every", 20)


@pytest.mark.slow
@pytest.mark.parametrize("length", [10, 30])
def test_what_the_first_node_tells_arrives_at_the_last(length, tmp_path, capsys):
    """A GCN of two layers sees three nodes of a chain; in the others it can only guess."""
    reached, seen = tmp_path / "implicit", tmp_path / "explicit"
    assert run(*CHAINS, "--chain_length", length, "--out", reached) == 0
    assert run(*CHAINS, "--chain_length", length, "--explicit", 2, "--out", seen) == 0
    assert "unrolled: 2 steps, no solver" in capsys.readouterr().out
    implicit, explicit = (read_metrics(out)[-1]["accuracy"] for out in (reached, seen))
    assert implicit >= 0.95
    assert explicit < 0.9
    assert all(np.isfinite(row["loss"]) for row in read_metrics(reached))


@pytest.mark.slow
def test_it_goes_on_evaluates_and_can_be_taken_along(tmp_path, capsys):
    """Without a norm, where projections are part of the state that is saved."""
    out, again = tmp_path / "run", tmp_path / "again"
    options = ("--norm_type", "none", "--steps", 40)
    assert run(*CHAINS, *options, "--out", out) == 0
    assert run(*CHAINS, *options, "--out", again, "--stop_after", 20) == 0
    assert run("train", "ignn", "--out", again, "--resume") == 0
    whole, parts = (read_metrics(folder)[-1] for folder in (out, again))
    assert whole["accuracy"] == parts["accuracy"] and whole["loss"] == parts["loss"]
    capsys.readouterr()
    assert run("eval", "ignn", "--checkpoint", out) == 0
    said = capsys.readouterr().out
    assert f"accuracy {100 * whole['accuracy']:.2f} %" in said
    assert run("export", "ignn", tmp_path / "a.npz", "--checkpoint", out) == 0
    argv = ("--preset", "chains", "--config", tmp_path / "sizes.json", "--out", tmp_path / "in")
    (tmp_path / "sizes.json").write_text('{"deq": {"norm_type": "none"}}')
    assert run("import", "ignn", tmp_path / "a.npz", *argv) == 0
    assert run("export", "ignn", tmp_path / "b.npz", "--checkpoint", tmp_path / "in") == 0
    one, two = np.load(tmp_path / "a.npz"), np.load(tmp_path / "b.npz")
    assert "ig1.W" in one and "X_0" in one and sorted(one) == sorted(two)
    assert all(np.array_equal(one[name], two[name]) for name in one)
    capsys.readouterr()
    assert run("eval", "ignn", "--checkpoint", tmp_path / "in") == 0
    assert f"accuracy {100 * whole['accuracy']:.2f} %" in capsys.readouterr().out
