"""Kinds of models and of data that the trainer was not made for one by one."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest
from flax import nnx

from tests.zoo.training.toys import (
    CLASSES,
    FEATURES,
    NODES,
    GraphTask,
    ImageTask,
    trainer,
)
from zoo.checkpoints.checkpoint import find_checkpoint
from zoo.checkpoints.saved import restored_model
from zoo.data.samples import Samples
from zoo.data.split import Batch, Data
from zoo.devices.mesh import Devices
from zoo.figures import mean
from zoo.logs.comparison import LoggedRun, comparison
from zoo.logs.metrics import read_metrics
from zoo.training.evaluation import Evaluator

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("toy")]


def graphs(n: int, seed: int = 0) -> Samples:
    """Features on a ring with a chord; a label is whether some neighbours' sum is positive."""
    rng = np.random.default_rng(seed)
    ring = np.arange(NODES)
    edges = np.stack([np.append(ring, 0), np.append(np.roll(ring, -1), 3)]).astype(np.int32)
    x = rng.normal(size=(n, NODES, FEATURES)).astype(np.float32)
    adjacent = np.zeros((NODES, NODES))
    adjacent[edges[1], edges[0]] = 1
    y = (adjacent @ x @ rng.normal(size=(FEATURES, CLASSES)) > 0).astype(np.float32)
    return Samples({"x": x, "y": y}, whole={"edges": edges})


@pytest.fixture(scope="module")
def of_graphs() -> Data:
    return Data(graphs(32), test=graphs(20, seed=1))


@pytest.fixture(scope="module")
def of_pixels() -> Data:
    def split(n: int, seed: int) -> Samples:
        x = np.random.default_rng(seed).uniform(-1, 1, (n, 2)).astype(np.float32)
        return Samples({"x": x, "y": np.sin(2 * x[:, 0] + x[:, 1])})

    return Data(split(64, 0), test=split(21, 1))


def f1(model: Any, data: Samples) -> float:
    """Of the whole split at once, by its definition."""
    said = np.asarray(model(data.arrays["x"], data.whole["edges"])) > 0
    true = data.arrays["y"] == 1
    return 2 * np.sum(said & true) / (2 * np.sum(said & true) + np.sum(said != true))


def test_micro_f1_is_that_of_the_sums(of_graphs, tmp_path):
    made = trainer(GraphTask(), of_graphs)
    evaluation = made.fit(tmp_path)  # batches of 8, 8 and 4
    model: Any = restored_model(made.task, made.config, find_checkpoint(tmp_path))
    assert evaluation.figures["micro-F1"] == pytest.approx(f1(model, of_graphs.test), rel=1e-6)
    assert list(evaluation.figures) == ["micro-F1", "accuracy"]
    assert evaluation.line("test", GraphTask.figures).startswith("test micro-F1 0.")
    rows = read_metrics(tmp_path)
    assert {"micro-F1", "accuracy", "tp"} <= rows[0].keys()  # training figures as well
    tests = [row for row in rows if row["split"] == "test"]
    assert [row["micro-F1"] for row in tests][-1] == evaluation.figures["micro-F1"]
    assert find_checkpoint(tmp_path, best=True).score == max(row["micro-F1"] for row in tests)


def test_psnr_is_that_of_the_mean_over_all_pixels(of_pixels, tmp_path):
    made = trainer(ImageTask(), of_pixels, steps=20)
    evaluation = made.fit(tmp_path)
    model: Any = restored_model(made.task, made.config, find_checkpoint(tmp_path))
    x, y = of_pixels.test.arrays.values()
    error = np.asarray(model(x)) - y
    known = np.abs(y) < 0.5
    want = {
        "PSNR": -10 * np.log10(np.mean(error**2)),
        "EPE": np.mean(np.abs(error[known])),
        "outliers": np.mean(np.abs(error) > 0.3),
    }
    assert evaluation.figures == pytest.approx(want, rel=1e-5)
    tests = [row for row in read_metrics(tmp_path) if row["split"] == "test"]
    assert tests[-1]["PSNR"] > tests[0]["PSNR"] + 1  # it learns
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")
    logged = LoggedRun(
        "a", json.loads((tmp_path / "config.json").read_text()), tests, ImageTask.figures
    )
    table = comparison([logged, logged])
    for name in ("PSNR, last", "PSNR, best", "EPE, last", "outliers, best"):
        assert name in table
    assert f"{want['PSNR']:.2f} dB" in table


@pytest.mark.parametrize("devices", [Devices(), Devices("data=8"), Devices("data=8", fsdp=True)])
@pytest.mark.parametrize("accumulate", [1, 4])
def test_arrays_without_rows_belong_to_all_of_them(devices, accumulate, of_graphs):
    """On any devices and in any parts the same steps are made, and the same figures found."""
    whole = trainer(GraphTask(), of_graphs, batch_size=32)
    other = trainer(
        GraphTask(), of_graphs, devices, batch_size=32 // accumulate, accumulate=accumulate
    )
    batches = of_graphs.train.train_batches(32, seed=0, start=0, stop=3)
    for batch in batches:
        one, two = whole.update(batch), other.update(batch)
        np.testing.assert_allclose(one["loss"], two["loss"], rtol=1e-5)
    assert whole.evaluate().figures == pytest.approx(other.evaluate().figures, rel=1e-5)
    assert whole.evaluate().loss == pytest.approx(other.evaluate().loss, rel=1e-5)


def test_an_entry_without_rows_that_is_not_said_to_be_one(of_graphs):
    edges = np.repeat(of_graphs.train.whole["edges"][None], 3, 0)
    silent = dataclasses.replace(of_graphs.train, whole={})
    batch = next(of_graphs.train.train_batches(8, seed=0, start=0, stop=1))
    made = trainer(GraphTask(), Data(silent, test=of_graphs.test))
    with pytest.raises(ValueError, match=r"'edges' .* \(3, 2, 7\), expected 8 rows; .* `shared`"):
        made.update({**batch, "edges": edges})


def test_a_figure_of_an_output_that_is_not_there(of_pixels):
    task: Any = ImageTask()
    task.figures = {"SSIM": mean("ssim", "{:.3f}".format)}
    with pytest.raises(ValueError, match="SSIM is made of ssim: no output 'ssim'"):
        trainer(task, of_pixels).evaluate()


@dataclasses.dataclass(frozen=True)
class Buckets:
    """Graphs of several sizes, each padded to one of two, with a weight for every node."""

    sizes: tuple[int, ...]
    shared = ("edges",)

    def graph(self, size: int, padded: int) -> tuple[Batch, np.ndarray]:
        rng = np.random.default_rng(size)
        x = np.full((1, padded, FEATURES), np.nan, np.float32)  # what fills up must not count
        y = np.zeros((1, padded, CLASSES), np.float32)
        x[:, :size] = rng.normal(size=(size, FEATURES))
        y[:, :size] = rng.integers(0, 2, (size, CLASSES))
        edges = np.stack([np.arange(padded), np.arange(padded)])
        edges[1, :size] = np.roll(edges[1, :size], 1)
        weight = (np.arange(padded) < size)[None]
        return {"x": x, "y": y, "edges": edges}, weight.astype(np.float32)

    def eval_batches(self, batch_size: int) -> Iterator[tuple[Batch, np.ndarray]]:
        for size in self.sizes:
            yield self.graph(size, 4 if size <= 4 else 8)


def test_batches_of_a_few_shapes_are_compiled_once_each():
    task, split = GraphTask(), Buckets((3, 8, 4, 5, 2, 7))
    model: Any = task.build(None, None, rngs=nnx.Rngs(0))
    _, params, rest = nnx.split(model, nnx.Param, ...)
    evaluate = Evaluator(task, model)
    first, again = (evaluate(params, rest, cast(Any, split), 1) for _ in range(2))
    assert task.evaluations == 2 and first.values() == again.values()
    said, true = [], []
    for size in split.sizes:
        batch, _ = split.graph(size, size)
        said.append(np.asarray(model(batch["x"], batch["edges"]))[0] > 0)
        true.append(batch["y"][0] == 1)
    said, true = np.concatenate(said), np.concatenate(true)
    want = 2 * np.sum(said & true) / (2 * np.sum(said & true) + np.sum(said != true))
    assert first.figures["micro-F1"] == pytest.approx(want, rel=1e-6)
    assert first.figures["accuracy"] == pytest.approx(np.mean(said == true), rel=1e-6)
    assert len(first.trace) == len(split.sizes)


@pytest.mark.parametrize("low", [(), ("x",)])
def test_only_what_a_model_names_is_rounded(low, of_pixels):
    task: Any = ImageTask(low)
    made = trainer(task, of_pixels, compute_dtype="bfloat16")
    made.update(next(of_pixels.train.train_batches(8, seed=0, start=0, stop=1)))
    assert task.seen == {"x": "bfloat16" if low else "float32", "y": "float32"}
