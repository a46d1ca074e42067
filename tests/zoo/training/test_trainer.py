import dataclasses
import json

import jax
import numpy as np
import pytest
from flax import nnx

import jdeq
from tests.tolerances import rounding
from zoo.checkpoints.checkpoint import find_checkpoint
from zoo.errors import UserError
from zoo.logs.metrics import read_metrics
from zoo.training.fit import Diverged
from zoo.training.trainer import Trainer

pytestmark = pytest.mark.slow


def leaves(trainer):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(trainer.state)]


def test_the_step_is_compiled_once(counting_task, tiny_run, tiny_data, tmp_path):
    Trainer(counting_task, tiny_run, tiny_data).fit(tmp_path)
    assert counting_task.traces == 1


def training_rows(out):
    """All that a clock has no part in."""
    rows = [r for r in read_metrics(out) if r["split"] == "train"]
    return [{k: v for k, v in r.items() if k != "step_time"} for r in rows]


def test_a_resumed_run_equals_an_uninterrupted_one(counting_task, tiny_run, tiny_data, tmp_path):
    deq = dataclasses.replace(tiny_run.deq, norm_type="spectral_norm")  # which has a state
    tiny_run = dataclasses.replace(tiny_run, deq=deq)
    through = Trainer(counting_task, tiny_run, tiny_data)
    vectors = lambda: jax.tree.leaves(nnx.filter_state(through.state.rest, jdeq.nn.PowerIteration))
    start = jax.device_get(vectors())
    whole = through.fit(tmp_path / "a")
    assert start and all(np.any(a != b) for a, b in zip(start, vectors(), strict=True))

    first = Trainer(counting_task, tiny_run, tiny_data)
    first.fit(tmp_path / "b", stop_after=4)
    second = Trainer(counting_task, tiny_run, tiny_data)
    second.restore(tmp_path / "b")
    assert second.step == 4
    resumed = second.fit(tmp_path / "b")

    for a, b in zip(leaves(through), leaves(second), strict=True):
        np.testing.assert_array_equal(a, b)
    assert resumed.values() == whole.values()
    assert training_rows(tmp_path / "a") == training_rows(tmp_path / "b")


def test_what_a_run_leaves_behind(counting_task, tiny_run, tiny_data, tmp_path):
    evaluation = Trainer(counting_task, tiny_run, tiny_data).fit(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows if r["split"] == "train"] == [1, 2, 3, 4, 5, 6]
    assert [r["step"] for r in rows if r["split"] == "test"] == [3, 6]
    assert {"loss", "accuracy", "residual", "nfe"} <= rows[0].keys()
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")
    assert evaluation.trace.shape[0] == len(tiny_data.test)
    newest = find_checkpoint(tmp_path)
    assert newest.step == 6
    assert newest.config == tiny_run.to_dict()


def test_evaluation_does_not_depend_on_the_batch_size(counting_task, tiny_run, tiny_data, tmp_path):
    trainer = Trainer(counting_task, tiny_run, tiny_data)
    small = trainer.evaluate()  # 16 + 4 samples
    size = dataclasses.replace(tiny_run.train, eval_batch_size=20)
    other = Trainer(counting_task, dataclasses.replace(tiny_run, train=size), tiny_data).evaluate()
    assert small.figures == other.figures
    close = rounding(np.float32, terms=18 * 36)  # in 18 convolutions
    np.testing.assert_allclose(small.loss, other.loss, rtol=close)
    np.testing.assert_allclose(small.trace, other.trace, rtol=0, atol=close)


def test_another_seed_is_another_run(counting_task, tiny_run, tiny_data):
    a = Trainer(counting_task, tiny_run, tiny_data)
    b = Trainer(counting_task, dataclasses.replace(tiny_run, seed=1), tiny_data)
    assert any((x != y).any() for x, y in zip(leaves(a), leaves(b), strict=True))


def test_resuming_another_run_is_refused(counting_task, tiny_run, tiny_data, tmp_path):
    Trainer(counting_task, tiny_run, tiny_data).fit(tmp_path)
    other = dataclasses.replace(tiny_run, seed=1)
    with pytest.raises(UserError, match="seed was 0, now 1"):
        Trainer(counting_task, other, tiny_data).restore(tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run(counting_task, tiny_run, tiny_data, tmp_path):
    train = dataclasses.replace(tiny_run.train, lr=1e38, max_skips=3, eval_every=6)
    run = dataclasses.replace(tiny_run, train=train)
    with pytest.raises(
        Diverged, match="3 steps in a row up to step 4.*--lr.*no checkpoint is older"
    ):
        Trainer(counting_task, run, tiny_data).fit(tmp_path)
