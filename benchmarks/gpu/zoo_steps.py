"""Training steps of the zoo's models on random data."""

import dataclasses
import statistics
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from .context import Context, Jobs, Row
from .zoo_runs import check_packages, trainer

NOTES = """Through the zoo's own trainer, random numbers in place of data, batches sent to the
device anew at every step. bfloat16 solves by the relative residual, to 1e-2. `waiting ms` is a
step whose result is waited for, `ms` one of many in a row."""

RELATIVE = {"f_stop_mode": "rel", "f_tol": 1e-2, "b_stop_mode": "rel", "b_tol": 1e-2}
ROUNDS, IN_A_ROW = 3, 8


@dataclasses.dataclass(frozen=True)
class Measured:
    """A preset, its batch, and which data it gets."""

    model: str
    preset: str
    batch: int
    dtype: str
    deq: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return f"{self.model} {self.preset}, batch {self.batch}, {self.dtype}"


def measured(*, quick: bool) -> Iterator[Measured]:
    if quick:
        yield Measured("lm", "quick", 4, "float32")
        return
    for name in (
        ("lm", "wikitext2-small", 32),
        ("mdeq", "cifar-small", 128),
        ("mdeq", "cifar-large", 96),
        ("lm", "wikitext103", 56),
    ):
        yield Measured(*name, "float32")
        yield Measured(*name, "bfloat16", tuple(RELATIVE.items()))


class RandomBatches:
    """A split (`zoo.data.split.Split`) of a few batches that repeat."""

    shared = ()

    def __init__(self, batches: list[dict[str, np.ndarray]]):
        self.batches = batches

    def check_batch_size(self, batch_size: int) -> None: ...

    def train_batches(self, batch_size, *, seed, start, stop, rows=slice(None)):
        return (self.batches[i % len(self.batches)] for i in range(start, stop))

    def eval_batches(self, batch_size):
        return iter(())


def random_batch(model: str, sizes: Any, batch: int, rng: np.random.Generator):
    """What one of the zoo's models is trained on."""
    if model == "mdeq":
        x = rng.normal(size=(batch, *sizes.image_size, sizes.in_channels)).astype(np.float32)
        return {"x": x, "y": rng.integers(0, 10, batch).astype(np.int32)}
    tokens = rng.integers(0, sizes.n_token, (batch, sizes.tgt_len + 1)).astype(np.int32)
    return {"x": tokens[:, :-1], "y": tokens[:, 1:], "fresh": np.array(False)}


def jobs(context: Context) -> Jobs:
    check_packages()
    for one in measured(quick=context.quick):
        yield str(one), lambda one=one: rows(one, context)


def rows(one: Measured, context: Context) -> list[Row]:
    from zoo.data.split import Data
    from zoo.registry import get_task

    sizes = get_task(one.model).presets[one.preset].model
    rng = np.random.default_rng(0)
    split = RandomBatches([random_batch(one.model, sizes, one.batch, rng) for _ in range(4)])
    settings = {"batch_size": one.batch, "compute_dtype": one.dtype}
    start = time.perf_counter()
    run = trainer(one.model, one.preset, Data(split, split), deq=dict(one.deq), **settings)
    metrics = jax.device_get(run.update(split.batches[0]))
    compiling = time.perf_counter() - start
    in_a_row, waiting = steps(run, split.batches, 2 if context.quick else IN_A_ROW)
    size = sum(a.size for a in jax.tree.leaves(run.state.params))
    return [
        {
            "model": str(one),
            "parameters": size,
            "ms": 1e3 * in_a_row,
            "waiting ms": 1e3 * waiting,
            "samples/s": one.batch / in_a_row,
            "NFE": float(metrics["nfe"]),
            "residual": float(metrics["residual"]),
            "first step s": compiling,
        }
    ]


def steps(run: Any, batches: list[Any], in_a_row: int) -> tuple[float, float]:
    """Median seconds of a step, many in a row, and alone."""

    def some(n: int) -> float:
        start = time.perf_counter()
        for i in range(n):
            run.update(batches[i % len(batches)])
        jax.block_until_ready(run.state)
        return (time.perf_counter() - start) / n

    some(2)
    alone = statistics.median(some(1) for _ in range(ROUNDS))
    return statistics.median(some(in_a_row) for _ in range(ROUNDS)), alone
