"""Graphs over simulated devices: the same curve as on one."""

import dataclasses

import numpy as np
import pytest

from tests.tolerances import rounding
from zoo.data.split import Data
from zoo.devices.mesh import Devices
from zoo.ignn.adjacency import augmented, undirected
from zoo.ignn.graph import Graph
from zoo.ignn.packs import Packs
from zoo.ignn.presets import PRESETS
from zoo.ignn.task import TASK
from zoo.run import RunConfig
from zoo.training.trainer import Trainer

STEPS, BATCH, PER_PACK = 4, 8, 2


def rings_and_paths() -> Data:
    """Class 1 is a closed path; features are random."""
    rng, graphs = np.random.default_rng(0), []
    for number in range(40):
        n, closed = int(rng.integers(3, 9)), number % 2
        sources = np.arange(n - 1 + closed)
        graph = Graph(n, sources, (sources + 1) % n, features=rng.normal(size=(n, 3)))
        graph = augmented(undirected(graph))
        graphs.append(dataclasses.replace(graph, labels=np.asarray(closed)))
    packs = Packs(graphs, per_pack=PER_PACK)
    return Data(packs, packs, sizes={"n_features": 3, "n_classes": 2})


@pytest.mark.slow
def test_a_batch_of_graphs_over_eight_devices():
    data, start = rings_and_paths(), PRESETS["mutag"]
    config = RunConfig.of_preset(
        TASK,
        "mutag",
        model=dataclasses.replace(start.model, widths=(8, 8), n_features=3, dropout=0.0),
        train=dataclasses.replace(start.train, batch_size=BATCH, eval_batch_size=BATCH),
    )
    curves, figures = [], []
    for devices in (Devices(), Devices("data=8"), Devices("data=8", fsdp=True)):
        trainer = Trainer(TASK, config, data, devices)
        batches = data.train.train_batches(BATCH, seed=0, start=0, stop=STEPS)
        curves.append([float(trainer.update(batch)["loss"]) for batch in batches])
        figures.append(trainer.evaluate().loss)
    one, *others = curves
    assert one[-1] != one[0]
    close = rounding(np.float32, terms=8 * PER_PACK * 8 * 40)  # of sums, in some forty iterations
    for curve, loss in zip(others, figures[1:], strict=True):
        np.testing.assert_allclose(curve, one, rtol=close)
        np.testing.assert_allclose(loss, figures[0], rtol=close)
