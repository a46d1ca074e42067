"""A model that remembers: trained, stopped, resumed and evaluated over segments."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.tolerances import rounding
from tests.zoo.test_cli import run
from tests.zoo.toy_lm import TASK, TEXT, Toy, ToyConfig, ToyTask
from zoo.checkpoints.checkpoint import Checkpoint, find_checkpoint
from zoo.data.split import Data
from zoo.data.streams import Streams
from zoo.data.vocabulary import Vocabulary
from zoo.logs.metrics import read_metrics
from zoo.nn.carry import Carry, forget, fresh_carry
from zoo.run import RunConfig
from zoo.training.evaluation import Evaluator
from zoo.training.trainer import Trainer

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("toy")]
PRESET = TASK.presets["quick"]


@pytest.fixture(scope="module")
def data() -> Data:
    tokens = np.random.default_rng(0).integers(0, 5, 300).astype(np.int32)
    split = lambda n: Streams(tokens[:n], 8)
    return Data(split(300), test=split(60), valid=split(50), sizes={"n_tokens": 5})


@pytest.fixture
def config() -> RunConfig:
    return RunConfig("toy", "quick", "none", 0, ToyConfig(5), PRESET.deq, PRESET.train)


@pytest.fixture
def text(tmp_path):
    folder = tmp_path / "text"
    folder.mkdir()
    (folder / "all.txt").write_text(TEXT)
    return folder


def test_a_resumed_run_remembers(config, data, tmp_path):
    through = Trainer(TASK, config, data)
    whole = through.fit(tmp_path / "a")
    Trainer(TASK, config, data).fit(tmp_path / "b", stop_after=5)  # a pass has 9 steps
    second = Trainer(TASK, config, data)
    second.restore(tmp_path / "b")
    memory = jax.tree.leaves(nnx.filter_state(second.state.rest, Carry))
    assert [m.shape for m in memory] == [(4, 4)] and np.all(memory[0] != 0)
    resumed = second.fit(tmp_path / "b")
    for a, b in zip(jax.tree.leaves(through.state), jax.tree.leaves(second.state), strict=True):
        np.testing.assert_array_equal(a, b)
    assert resumed.values() == whole.values()


def test_training_is_watched_on_the_validation_split(config, data, tmp_path):
    Trainer(TASK, config, data).fit(tmp_path)
    rows = [r for r in read_metrics(tmp_path) if r["split"] != "train"]
    assert [(r["step"], r["split"]) for r in rows] == [(10, "valid"), (20, "valid"), (20, "test")]
    assert all(np.isclose(r["perplexity"], np.exp(r["loss"])) for r in rows)


def test_training_goes_on_in_its_own_memory(config, data, tmp_path):
    """Evaluations, of other batch sizes, leave no trace in it."""
    often = dataclasses.replace(config, train=dataclasses.replace(config.train, eval_every=1))
    a, b = Trainer(TASK, config, data), Trainer(TASK, often, data)
    a.fit(tmp_path / "a", stop_after=6)
    b.fit(tmp_path / "b", stop_after=6)
    for x, y in zip(jax.tree.leaves(a.state), jax.tree.leaves(b.state), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_an_evaluation_in_segments_is_that_of_whole_streams(batch_size):
    model = Toy(ToyConfig(5), rngs=nnx.Rngs(0))
    _, params, rest = nnx.split(model, nnx.Param, ...)
    tokens = np.random.default_rng(1).integers(0, 5, 60).astype(np.int32)
    evaluate = Evaluator(TASK, model)
    in_segments = evaluate(params, rest, Streams(tokens, 7), batch_size)
    whole = evaluate(params, rest, Streams(tokens, 100), batch_size)
    close = rounding(np.float32, terms=6 * tokens.size)  # one state after another: sums of 4, plus
    perplexity = pytest.approx(np.exp(whole.loss), rel=whole.loss * close)
    assert in_segments.loss == pytest.approx(whole.loss, rel=close)
    assert in_segments.figures["perplexity"] == perplexity
    assert in_segments.converged == 1

    batch = {"x": tokens[None, :-1], "y": tokens[None, 1:], "fresh": np.array(True)}
    if batch_size == 1:
        assert whole.loss == pytest.approx(float(model.nll(batch).mean()), rel=close)


class Window(nnx.Module):
    """Carries the last tokens and their number: 3 in training, 6 in evaluation."""

    def __init__(self):
        self.last = Carry(self.room(3))

    def eval(self, **attributes):
        super().eval(**attributes)
        self.last.set_value(self.room(6))

    def room(self, n: int):
        return {"tokens": jnp.zeros((1, n), jnp.int32), "filled": jnp.zeros((1,), jnp.int32)}


class WindowTask(ToyTask):
    """Its figures are what the window holds before each segment."""

    def evaluate(self, model, batch):
        last = model.last.get_value()
        room = last["tokens"].shape[1]
        tokens = jnp.concatenate([last["tokens"], batch["x"]], axis=1)[:, -room:]
        filled = jnp.minimum(last["filled"] + batch["x"].shape[1], room)
        model.last.set_value({"tokens": tokens, "filled": filled})
        figures = self.outputs(jnp.broadcast_to(last["filled"][:, None], batch["x"].shape))
        return figures | {"residual": last["tokens"][:, -1]}


def test_evaluation_may_carry_more_than_training():
    model = Window()
    _, params, rest = nnx.split(model, nnx.Param, ...)
    evaluation = Evaluator(WindowTask(), model)(params, rest, Streams(np.arange(17), 4), 1)
    assert evaluation.loss == (0 + 4 + 6 + 6) / 4
    assert evaluation.residual == (0 + 3 + 7 + 11) / 4


def test_rows_are_forgotten_each_by_itself():
    model = Toy(ToyConfig(), rngs=nnx.Rngs(0))
    nnx.update(model, fresh_carry(nnx.state(model, Carry), 3))
    model.memory.set_value(jnp.ones((3, 4)))
    forget(model, jnp.array([False, True, False]))
    np.testing.assert_array_equal(model.memory[:, 0], [1, 0, 1])
    forget(model, jnp.array(False))
    assert model.memory[...].any()
    forget(model, jnp.array(True))
    assert not model.memory[...].any()


def test_the_command_line_with_a_vocabulary(text, tmp_path, capsys):
    out = tmp_path / "run"
    assert run("train", "toy", "--data", text, "--out", out, "--stop_after", 11) == 0
    assert run("train", "toy", "--data", text, "--out", out, "--resume", "--momentum", 1) == 2
    assert "train.momentum was 0.0, now 1.0" in capsys.readouterr().err
    assert run("train", "toy", "--data", text, "--out", out, "--resume") == 0
    trained = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"test perplexity [\d.]+ \(mean relative residual .*\)", trained)
    checkpoint = find_checkpoint(out)
    saved = Vocabulary.from_dict(checkpoint.meta["vocabulary"])
    assert checkpoint.config["model"]["n_tokens"] == len(saved)
    assert saved.tokens == tuple(sorted(set(TEXT)))
    assert run("eval", "toy", "--checkpoint", out, "--data", text) == 0
    assert capsys.readouterr().out.splitlines()[-1] == trained
    last = [json.loads(row) for row in (out / "metrics.jsonl").read_text().splitlines()][-1]
    assert f"perplexity {last['perplexity']:.1f} " in trained


def test_another_text_needs_the_same_characters(text, tmp_path, capsys):
    out = tmp_path / "run"
    assert run("train", "toy", "--data", text, "--out", out, "--steps", 1) == 0
    (text / "all.txt").write_text(TEXT.replace("lazy", "LAZY"))
    capsys.readouterr()
    for command in ("eval toy --checkpoint", "train toy --resume --out"):
        assert run(*command.split(), out, "--data", text) == 2
        assert "train text: the character 'L' is not in the vocab" in capsys.readouterr().err


def test_weights_without_a_vocabulary_need_data_of_their_size(text, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    read = Checkpoint.read
    without = lambda path: dataclasses.replace(read(path), meta={})
    monkeypatch.setattr(Checkpoint, "read", without)
    assert run("train", "toy", "--data", text, "--out", out, "--steps", 1) == 0
    assert run("eval", "toy", "--checkpoint", out, "--data", text) == 0
    (text / "all.txt").write_text(TEXT.upper() + TEXT)
    assert run("eval", "toy", "--checkpoint", out, "--data", text) == 2
    assert "not one for these data, with {'n_tokens': 54}" in capsys.readouterr().err


def test_too_short_a_text_is_said_before_training(text, capsys, tmp_path):
    command = ("train", "toy", "--data", text, "--out", tmp_path / "run", "--batch_size", 1000)
    assert run(*command) == 2
    assert "batch_size 1000 with segments of 8 tokens needs" in capsys.readouterr().err
