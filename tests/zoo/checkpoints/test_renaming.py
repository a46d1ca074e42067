"""A model whose code has changed since it was saved: whoever reads it gets an error with names."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.marks import some_of
from tests.zoo.test_cli import run
from tests.zoo.toy_lm import TASK, TEXT, Toy, ToyTask
from zoo.checkpoints.checkpoint import find_checkpoint
from zoo.checkpoints.saved import restored_model, saved_run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("toy")]


class Twice(Toy):
    """Two parameters of one shape, the first of which may have another name."""

    def __init__(self, config, *, rngs: nnx.Rngs, first: str):
        super().__init__(config, rngs=rngs)
        setattr(self, first, nnx.Param(jnp.full(3, 1.0)))
        self.ln2 = nnx.Param(jnp.full(3, 2.0))


def build_with(monkeypatch, first: str) -> None:
    build = lambda self, config, deq, *, rngs: Twice(config, rngs=rngs, first=first)
    monkeypatch.setattr(ToyTask, "build", build)


@pytest.fixture
def saved(tmp_path, monkeypatch, capsys):
    """A run, trained and saved while the parameter was called `ln1`."""
    (tmp_path / "text").mkdir()
    (tmp_path / "text/all.txt").write_text(TEXT)
    build_with(monkeypatch, "ln1")
    argv = ("--data", tmp_path / "text", "--out", tmp_path / "run", "--steps", 2)
    assert run("train", "toy", *argv, "--momentum", 0.9, "--ema", 0.5) == 0
    capsys.readouterr()
    return tmp_path


COMMANDS = {
    "resume": "train toy --data {0}/text --out {0}/run --resume --steps 3",
    "init": "train toy --data {0}/text --out {0}/new --steps 1 --init {0}/run",
    "eval": "eval toy --data {0}/text --checkpoint {0}/run",
    "export": "export toy {0}/weights.npz --checkpoint {0}/run",
}


@pytest.mark.parametrize("command", some_of(COMMANDS, ["resume", "export"]))
def test_a_renamed_parameter_is_named_twice(command, saved, monkeypatch, capsys):
    """Sorted, `norm_attention` comes after `ln2`: by its place it would get that one's values."""
    assert run(*command.format(saved).split()) == 0
    build_with(monkeypatch, "norm_attention")
    assert run(*command.format(saved).split()) == 2
    said = capsys.readouterr().err
    assert "missing params.norm_attention, " in said and "; surplus params.ln1, " in said
    assert "ln2" not in said


def test_an_added_and_a_removed_parameter(saved, monkeypatch, capsys):
    monkeypatch.setattr(ToyTask, "build", lambda self, config, deq, *, rngs: Toy(config, rngs=rngs))
    assert run(*COMMANDS["eval"].format(saved).split()) == 2
    said = capsys.readouterr().err
    assert ": surplus params.ln1, params.ln2, " in said and "missing" not in said


def test_order_does_not_matter(saved):
    checkpoint = find_checkpoint(saved / "run")
    model = restored_model(TASK, saved_run(TASK, checkpoint), checkpoint)
    ln1, ln2 = (np.asarray(getattr(model, name)[...]) for name in ("ln1", "ln2"))
    np.testing.assert_array_equal(ln1, np.full(3, 1.0))
    np.testing.assert_array_equal(ln2, np.full(3, 2.0))
