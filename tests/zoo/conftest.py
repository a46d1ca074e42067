"""Fixtures of the zoo's tests."""

import dataclasses

import jax
import numpy as np
import pytest

import jdeq
from tests.golden import reference_folder
from tests.zoo.toy_lm import TASK as TOY
from zoo.data.samples import Samples
from zoo.data.split import Data
from zoo.mdeq.config import MDEQConfig
from zoo.mdeq.task import MDEQTask
from zoo.registry import PLUGGED
from zoo.run import RunConfig
from zoo.settings import TrainConfig

TINY = MDEQConfig(
    channels=(4,),  # one branch compiles in a fraction of the time of two
    head_channels=(2,),
    n_blocks=(1,),
    final_channels=8,
    n_groups=2,
    expansion=1,
    n_classes=3,
    in_channels=1,
    image_size=(4, 4),
)
TINY_DEQ = jdeq.DEQConfig(f_max_iter=3, grad=1, norm_type="weight_norm")
TINY_TRAIN = TrainConfig(
    steps=6, batch_size=8, eval_batch_size=16, log_every=1, eval_every=3, save_every=3
)


@pytest.fixture(autouse=True, scope="module")
def as_users_run_it():
    """float32 by default, as on the command line; optax needs the standard promotion."""
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def toy(monkeypatch):
    """Makes the model of `tests.zoo.toy_lm` known."""
    monkeypatch.setitem(PLUGGED, "toy", TOY)


@pytest.fixture
def golden():
    """Gives a reference folder by name, or skips."""
    return lambda name: reference_folder(f"mdeq_cifar/{name}")


@pytest.fixture
def tiny_run() -> RunConfig:
    """A run that takes seconds."""
    return RunConfig(
        name="mdeq",
        preset="quick",
        data="digits",
        seed=0,
        model=TINY,
        deq=TINY_DEQ,
        train=TINY_TRAIN,
    )


@pytest.fixture
def tiny_data() -> Data:
    """Noise with labels, 40 training and 20 test samples."""
    rng = np.random.default_rng(0)

    def split(n: int):
        x = rng.normal(size=(n, 4, 4, 1)).astype(np.float32)
        return {"x": x, "y": rng.integers(0, 3, n).astype(np.int32)}

    return Data(Samples(split(40)), Samples(split(20)))


class CountingTask(MDEQTask):
    """Counts how often the loss is traced."""

    def __init__(self):
        self.traces = 0

    def loss(self, model, batch, key):
        self.traces += 1
        return super().loss(model, batch, key)


@pytest.fixture
def counting_task() -> CountingTask:
    """An MDEQ task that counts its traces."""
    return CountingTask()


@pytest.fixture
def with_steps():
    """A run with another number of steps."""
    return lambda run, steps: dataclasses.replace(
        run, train=dataclasses.replace(run.train, steps=steps)
    )
