"""What changes a training step: accumulation, averages, precision, schedules, clipping."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tolerances import rounding
from tests.zoo.toy_lm import TASK, ToyConfig
from zoo.checkpoints.checkpoint import find_checkpoint
from zoo.checkpoints.saved import restored_model
from zoo.data.cifar10 import crop_and_flip
from zoo.data.samples import Samples
from zoo.data.split import Data
from zoo.data.streams import Streams
from zoo.devices.mesh import Devices
from zoo.errors import UserError
from zoo.run import RunConfig
from zoo.schedules import learning_rate
from zoo.settings import TrainConfig
from zoo.training.trainer import Trainer

pytestmark = pytest.mark.slow

TOKENS = np.random.default_rng(0).integers(0, 5, 600).astype(np.int32)
DATA = Data(Streams(TOKENS, 8), test=Streams(TOKENS[:100], 8))
PRESET = TASK.presets["quick"]
STEPS = 5


def make(devices: Devices | None = None, **options) -> Trainer:
    """The toy model, trained with these options."""
    train = dataclasses.replace(PRESET.train, **{"batch_size": 8, **options})
    config = RunConfig("toy", "quick", "none", 0, ToyConfig(5), PRESET.deq, train)
    return Trainer(TASK, config, DATA, devices)


def run(trainer: Trainer, steps: int = STEPS) -> list[float]:
    """Makes some steps; the losses."""
    batches = DATA.train.train_batches(trainer.config.train.rows, seed=0, start=0, stop=steps)
    return [float(trainer.update(batch)["loss"]) for batch in batches]


def same(a, b, rtol: float) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("devices", [None, Devices("data=2")])
def test_accumulating_is_a_larger_batch(devices):
    """Streams too: each row goes on in its own memory."""
    parts, whole = make(devices, batch_size=2, accumulate=4), make(devices, batch_size=8)
    close = rounding(np.float32, terms=8 * 6 * 8)  # 8 states of sums of 4; 8 rows
    np.testing.assert_allclose(run(parts), run(whole), rtol=close)
    same(parts.state.params, whole.state.params, close)
    same(parts.state.rest, whole.state.rest, close)


def test_the_average_is_its_closed_form():
    decay = 0.75
    trainer = make(ema=decay)
    history = [jax.device_get(trainer.state.params)]
    for batch in DATA.train.train_batches(8, seed=0, start=0, stop=STEPS):
        trainer.update(batch)
        history.append(jax.device_get(trainer.state.params))
    weights = [decay**STEPS] + [(1 - decay) * decay ** (STEPS - n) for n in range(1, STEPS + 1)]
    want = jax.tree.map(lambda *p: sum(w * x for w, x in zip(weights, p, strict=True)), *history)
    same(trainer.state.ema, want, rounding(np.float32, terms=2 * (STEPS + 1)))
    averaged = trainer.evaluate().loss
    trainer.state = trainer.state._replace(params=trainer.state.ema, ema=None)
    assert trainer.evaluate().loss == averaged
    trainer.state = trainer.state._replace(params=history[-1])
    assert trainer.evaluate().loss != averaged


def test_a_checkpoint_is_evaluated_by_its_average(toy, tmp_path):
    trainer = make(ema=0.5, steps=3)
    trainer.fit(tmp_path)
    model: Any = restored_model(TASK, trainer.config, find_checkpoint(tmp_path))
    np.testing.assert_array_equal(model.recur[...], trainer.state.ema["recur"].get_value())
    assert np.any(model.recur[...] != trainer.state.params["recur"].get_value())


def test_a_step_is_compiled_once_and_gives_its_old_state_up():
    trainer: Any = make(Devices("data=2", fsdp=True), batch_size=4, accumulate=2, ema=0.9)
    old = trainer.state
    run(trainer, 3)
    assert trainer._program.update._cache_size() == 1
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old))


def test_bfloat16_leaves_parameters_and_moments_in_float32(counting_task, tiny_run, tiny_data):
    deq = dataclasses.replace(tiny_run.deq, f_tol=1e-2, f_stop_mode="rel")
    train = dataclasses.replace(tiny_run.train, accumulate=2)
    seen = set()

    class Watching(type(counting_task)):
        def loss(self, model, batch, key):
            z, info = model.full_stage(model.encode(batch["x"]), key=key)
            arrays = (z[0], info.rel_residual, model.stem[0].bn.mean)
            seen.add(tuple(a.dtype.name for a in arrays))
            return super().loss(model, batch, key)

    run = dataclasses.replace(tiny_run, deq=deq, train=train)
    half = dataclasses.replace(run, train=dataclasses.replace(train, compute_dtype="bfloat16"))
    trainer, full = Trainer(Watching(), half, tiny_data), Trainer(counting_task, run, tiny_data)
    batch = next(iter(tiny_data.train.train_batches(16, seed=0, start=0, stop=1)))
    loss, in_full = trainer.update(batch)["loss"], full.update(batch)["loss"]
    assert loss.dtype == jnp.float32 and loss != in_full
    np.testing.assert_allclose(loss, in_full, rtol=0.05)
    assert seen == {("bfloat16", "float32", "float32")}
    floats = [a for a in jax.tree.leaves(trainer.state) if jnp.issubdtype(a.dtype, jnp.floating)]
    assert {a.dtype.name for a in floats} == {"float32"}


def test_tolerances_that_bfloat16_cannot_meet(counting_task, tiny_run, tiny_data):
    train = dataclasses.replace(tiny_run.train, compute_dtype="bfloat16")
    changes = [
        {"f_stop_mode": "abs"},
        {"f_stop_mode": "rel", "f_tol": 1e-3},
        {"f_max_iter": 0, "ift": True, "b_tol": 1e-6},
    ]
    for change in changes:
        run = dataclasses.replace(
            tiny_run, train=train, deq=dataclasses.replace(tiny_run.deq, **change)
        )
        prefix = "b" if "ift" in change else "f"
        with pytest.raises(UserError, match=f"{prefix}_stop_mode must be 'rel' and {prefix}_tol"):
            Trainer(counting_task, run, tiny_data)


def test_schedules():
    def rates(steps: list[int], **options) -> list[float]:
        train = TrainConfig(steps=100, lr=2.0, **options)
        schedule = learning_rate(train, own=lambda step: 7.0 + step)
        return [float(np.asarray(schedule(step))) for step in steps]

    assert rates([3]) == [10.0]
    assert rates([0, 99], schedule="constant") == [2, 2]
    np.testing.assert_allclose(rates([25], schedule="linear"), [1.5])
    np.testing.assert_allclose(rates([50], schedule="cosine"), [1.0], rtol=1e-6)
    warm = rates([0, 4, 9, 10, 55, 100], schedule="cosine", warmup=10)
    np.testing.assert_allclose(warm, [0.2, 1, 2, 2, 1, 0], atol=1e-6)


def test_clipping_bounds_the_whole_gradient():
    """Plain descent: the step's length is the rate times the clipped norm."""

    def length(clip: float) -> float:
        trainer = make(clip=clip)
        start = jax.device_get(trainer.state.params)
        run(trainer, 1)
        moved = jax.tree.map(np.subtract, jax.device_get(trainer.state.params), start)
        return float(np.sqrt(sum(np.sum(a**2) for a in jax.tree.leaves(moved))))

    assert length(1e-3) == pytest.approx(PRESET.train.lr * 1e-3, rel=1e-3)
    assert length(0.0) > 10 * length(1e-3)


def test_augmented_rows_are_those_of_the_whole_batch():
    x = np.random.default_rng(0).normal(size=(12, 32, 32, 3)).astype(np.float32)
    split = Samples({"x": x, "y": np.arange(12)}, crop_and_flip)
    read = lambda rows: list(split.train_batches(6, seed=3, start=1, stop=4, rows=rows))
    for whole, *cut in zip(*map(read, (slice(None), slice(0, 2), slice(2, 6))), strict=True):
        for name in ("x", "y"):
            np.testing.assert_array_equal(whole[name], np.concatenate([c[name] for c in cut]))
