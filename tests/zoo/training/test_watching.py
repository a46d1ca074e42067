"""What a run tells of itself, and which of its steps it leaves out."""

import dataclasses
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.zoo.toy_lm import TASK, ToyConfig, ToyTask
from zoo.checkpoints.checkpoint import find_checkpoint
from zoo.data.split import Data
from zoo.data.streams import Streams
from zoo.folder import RunFolder
from zoo.logs.metrics import read_metrics
from zoo.run import RunConfig
from zoo.task import SolvingTask
from zoo.training.fit import Diverged, Watch
from zoo.training.spectrum import SpectralRadius
from zoo.training.trainer import Trainer

pytestmark = pytest.mark.slow

PRESET = TASK.presets["quick"]
PNG = b"\x89PNG"


class Spoiled(ToyTask):
    """Its loss, or only its gradient, is not finite at some steps."""

    def __init__(self, at, *, gradient_only: bool = False):
        self.at, self.gradient_only = jnp.asarray(at), gradient_only

    def loss(self, model, batch, key):
        loss, metrics = super().loss(model, batch, key)
        bad = jnp.any(batch["step"] == self.at)
        if self.gradient_only:  # 0 * sqrt(x) at x = 0 has no gradient
            x = jnp.where(bad, 0.0, 1.0) * jnp.sum(model.recur[...] ** 2)
            return loss + 0 * jnp.sqrt(x), metrics
        return jnp.where(bad, jnp.nan, loss), metrics


class Linear(nnx.Module):
    """z = A z + x."""

    def __init__(self, a):
        self.a = nnx.Param(jnp.asarray(a))


class LinearTask(ToyTask, SolvingTask):
    """Its spectral radius is known."""

    def __init__(self, a):
        self.a = a

    def build(self, config, deq, *, rngs):
        return Linear(self.a)

    def equilibrium(self, model, batch):
        return lambda z: z @ model.a[...].T + batch["x"], jnp.zeros_like(batch["x"])


class Counted(Streams):
    """Batches that know their step."""

    def train_batches(self, batch_size, *, seed, start, stop, rows=slice(None)):
        batches = super().train_batches(batch_size, seed=seed, start=start, stop=stop, rows=rows)
        for step, batch in enumerate(batches, start=start):
            yield {**batch, "step": np.int32(step)}


@pytest.fixture(scope="module")
def data() -> Data:
    tokens = np.random.default_rng(0).integers(0, 5, 300).astype(np.int32)
    return Data(Counted(tokens, 8), test=Streams(tokens[:60], 8), sizes={"n_tokens": 5})


def config(**train) -> RunConfig:
    settings = dataclasses.replace(PRESET.train, log_every=1, **train)
    return RunConfig("toy", "quick", "none", 0, ToyConfig(5), PRESET.deq, settings)


def leaves(state):
    return [
        np.asarray(leaf) for leaf in jax.tree.leaves((state.params, state.rest, state.opt_state))
    ]


@pytest.mark.parametrize("gradient_only", [False, True])
def test_a_step_that_is_not_finite_changes_nothing(data, gradient_only):
    trainer = Trainer(Spoiled([2, 3, 5], gradient_only=gradient_only), config(), data)
    states, skips = [leaves(trainer.state)], []
    for batch in data.train.train_batches(4, seed=0, start=0, stop=7):
        trainer.update(batch)
        states.append(leaves(trainer.state))
        skips.append(tuple(map(int, trainer.state.skips)))
    assert skips == [(0, 0), (0, 0), (1, 1), (2, 2), (2, 0), (3, 1), (3, 0)]
    for step in range(7):
        same = [np.array_equal(a, b) for a, b in zip(states[step], states[step + 1], strict=True)]
        assert all(same) if step in (2, 3, 5) else not any(same[:3])


def test_steps_that_are_left_out_are_counted_and_logged(data, toy, tmp_path):
    """In a run that was stopped and resumed, too."""
    task = Spoiled([2, 3, 5])
    Trainer(task, config(), data).fit(tmp_path, stop_after=4)
    second = Trainer(task, config(), data)
    second.restore(tmp_path)
    second.fit(tmp_path)
    rows = [row for row in read_metrics(tmp_path) if row["split"] == "train"]
    assert [row["skipped"] for row in rows[:7]] == [0, 0, 1, 2, 2, 3, 3]
    assert (
        math.isnan(rows[2]["loss"]) and '"loss": null' in (tmp_path / "metrics.jsonl").read_text()
    )
    assert rows[-1]["step"] == 20 and rows[-1]["skipped"] == 3


def test_too_many_in_a_row_end_the_run(data, tmp_path):
    trainer = Trainer(Spoiled(range(5, 20)), config(save_every=2, max_skips=4), data)
    with pytest.raises(Diverged, match=r"4 steps in a row up to step 9.* --lr.*checkpoints/4$"):
        trainer.fit(tmp_path)
    names = [path.name for path in RunFolder(tmp_path).checkpoint_paths()]
    assert names == ["2", "4"]  # not those of 6, 8


def test_the_host_waits_only_where_a_line_is_logged(data, tmp_path, monkeypatch):
    """Not for the counting of bad steps either."""
    waited = []
    get = jax.device_get
    monkeypatch.setattr(jax, "device_get", lambda x: waited.append(1) or get(x))
    seldom = dataclasses.replace(config(), train=dataclasses.replace(PRESET.train, log_every=10))
    with jax.transfer_guard_device_to_host("disallow_explicit"):
        trainer = Trainer(TASK, seldom, data)
        for batch in data.train.train_batches(4, seed=0, start=0, stop=9):
            trainer.update(batch)
    assert not waited


def test_the_spectral_radius_is_that_of_the_jacobian():
    a = np.diag([0.3, -1.7, 0.5]).astype(np.float32) + np.eye(3, k=1, dtype=np.float32)
    _, params, rest = nnx.split(Linear(a), nnx.Param, ...)
    batch = {"x": np.ones((100, 3), np.float32), "fresh": np.array(True)}
    measured = SpectralRadius(LinearTask(a), config())(params, rest, batch, ())
    assert measured == pytest.approx(np.abs(np.linalg.eigvals(a)).max(), rel=1e-3)


def test_the_best_checkpoint_is_kept(data, tmp_path):
    often = config(eval_every=1, save_every=20, lr=3.0)
    Trainer(TASK, often, data).fit(tmp_path)
    figures = {r["step"]: r["perplexity"] for r in read_metrics(tmp_path) if r["split"] == "test"}
    best = min(figures, key=lambda step: figures[step])
    assert find_checkpoint(tmp_path, best=True).step == best
    assert [int(p.name) for p in RunFolder(tmp_path).checkpoint_paths()][-1] == 20


def test_a_profile_and_files_for_tensorboard(data, tmp_path, capsys):
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore

    watch = Watch(tensorboard=True, profile=True)
    Trainer(TASK, config(), data).fit(tmp_path, watch=watch)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    pattern = r"profile: ([\d.]+) ms per step, of which the host between steps ([\d.]+) ms"
    said = re.search(pattern, capsys.readouterr().out)
    assert said and 0 < float(said[2]) < float(said[1])

    (file,) = (tmp_path / "tensorboard").iterdir()
    content, events = file.read_bytes(), []
    while content:  # length, its checksum, the event, its checksum
        size = int.from_bytes(content[:8], "little")
        events.append(Event.FromString(content[12 : 12 + size]))
        content = content[16 + size :]
    seen = {(v.tag, e.step): v.simple_value for e in events for v in e.summary.value}
    for row in read_metrics(tmp_path):
        for name, value in row.items():
            if name not in ("step", "split"):
                assert seen[f"{row['split']}/{name}", row["step"]] == pytest.approx(value, rel=1e-6)
