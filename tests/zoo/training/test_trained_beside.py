"""A part that is trained, of a model that is not."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from tests.zoo.training.toys import AcceleratedTask, trainer
from zoo.checkpoints.checkpoint import find_checkpoint
from zoo.checkpoints.saved import restored_model
from zoo.data.samples import Samples
from zoo.data.split import Data
from zoo.devices.mesh import Devices
from zoo.training.trainer import Trainer

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("toy")]


@pytest.fixture(scope="module")
def data() -> Data:
    def split(n: int) -> Samples:
        x = np.random.default_rng(n).normal(size=(n, 3))
        return Samples({"x": x.astype(np.float32)})

    return Data(split(64), test=split(24))


@pytest.mark.parametrize("train", [{}, {"compute_dtype": "bfloat16"}, {"accumulate": 2}])
def test_the_rest_stays_bit_for_bit(data, train, tmp_path):
    made = trainer(AcceleratedTask(), data, steps=30, eval_every=15, **train)
    before, guess = jax.device_get((made.state.rest, made.state.params))
    assert [path[0] for path, _ in nnx.to_flat_state(before)] == ["cell"] * 2
    steps = made.evaluate().figures["steps"]
    assert made.fit(tmp_path).figures["steps"] < steps
    jax.tree.map(np.testing.assert_array_equal, made.state.rest, before)
    changed = jax.tree.map(lambda a, b: bool(np.any(a != b)), made.state.params, guess)
    assert all(jax.tree.leaves(changed))
    model: Any = restored_model(AcceleratedTask(), made.config, find_checkpoint(tmp_path))
    np.testing.assert_array_equal(model.cell.kernel[...], before["cell"]["kernel"][...])


def test_a_new_run_begins_with_all_parameters(data, tmp_path):
    first = trainer(AcceleratedTask(), data)
    first.fit(tmp_path)
    other = dataclasses.replace(first.config, seed=1)
    second = Trainer(AcceleratedTask(), other, data)
    second.start_from(find_checkpoint(tmp_path))
    for part in ("params", "rest"):
        mine, theirs = getattr(second.state, part), getattr(first.state, part)
        jax.tree.map(np.testing.assert_array_equal, mine, theirs)
    resumed = trainer(AcceleratedTask(), data)
    resumed.restore(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, resumed.state, first.state)


def test_fsdp_splits_what_is_frozen_too(data):
    one, many = (
        trainer(AcceleratedTask(), data, devices)
        for devices in (None, Devices("data=8", fsdp=True))
    )
    for batch in data.train.train_batches(8, seed=0, start=0, stop=2):
        np.testing.assert_allclose(one.update(batch)["loss"], many.update(batch)["loss"], rtol=1e-5)


def test_training_nothing_is_a_mistake(data):
    task = AcceleratedTask()
    task.trained = nnx.PathContains("nowhere")
    with pytest.raises(ValueError, match="model 'toy' has no variable"):
        trainer(task, data)
