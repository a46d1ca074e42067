"""Implicit graph networks as a task of the trainer: classes of nodes or of graphs."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from jax import Array

import jdeq
from zoo.data.split import Data
from zoo.figures import ACCURACY, Figures
from zoo.ignn.config import IGNNConfig
from zoo.ignn.losses import losses, masked_mean
from zoo.ignn.model import IGNN
from zoo.ignn.optimizer import IGNNTrainConfig, adam, own_rate
from zoo.ignn.original import IGNNOriginal
from zoo.ignn.parity import quantities
from zoo.ignn.presets import PRESETS
from zoo.ignn.propagation import Edges
from zoo.ignn.scores import F1, counts
from zoo.ignn.sources import load
from zoo.ignn.trained import TRAINED
from zoo.solves import solve_means, solve_rows
from zoo.task import OriginalTask, SolvingTask

State = tuple[Array, ...]  # of all layers


class IGNNTask(SolvingTask, OriginalTask):
    """See `zoo.task`.

    A row of a batch is a pack of graphs: `x`, `sources`, `targets`, `weights`, `rho`, `y`, `mask`
    and, where graphs are classified, `graph`; see `zoo.ignn.packs`.
    """

    name = "ignn"
    summary = "implicit graph network, classes of nodes or graphs"
    figures: Figures = {**F1, **ACCURACY}
    presets = PRESETS
    module = IGNN
    weights = IGNNOriginal()
    quantities = staticmethod(quantities)
    trained = TRAINED
    low_precision = ("x",)

    def load_data(
        self, source: str, folder: pathlib.Path | None, *, model: IGNNConfig, meta: Mapping
    ) -> Data:
        """What a preset names; see `zoo.ignn.sources`."""
        return load(source, folder, model)

    def loss(
        self, model: IGNN, batch: Mapping[str, Array], key: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Mean loss over the nodes, or graphs, that count; plus the Jacobian penalty, if any."""
        dropout, probe = jax.random.split(key)
        logits, solved = model.forward(*_inputs(batch), key=dropout)
        info = model.said(batch["x"], solved)
        mean = lambda values: masked_mean(values, batch["mask"])
        scores = counts(logits, batch["y"], model.config.labels)
        means = {name: mean(values) for name, values in scores.items()}
        loss = mean(losses(logits, batch["y"])) + model.jac_loss(solved, probe)
        return loss, {**means, **solve_means(info)}

    def evaluate(self, model: IGNN, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Per node or graph, and of each pack's solve."""
        logits, info = model(*_inputs(batch))
        return {
            "loss": losses(logits, batch["y"]),
            **counts(logits, batch["y"], model.config.labels),
            **solve_rows(info, model.deq),
        }

    def equilibrium(
        self, model: IGNN, batch: Mapping[str, Array]
    ) -> tuple[Callable[[State], State], State]:
        """All layers together, each of which is fed by the state of the one before it."""
        x, edges = batch["x"], edges_of(batch)
        _, solved = model.encode(x, edges)
        return lambda z: model.joint(x, edges, z), tuple(each.z for each in solved)

    def unrolled(self, config: IGNNConfig, deq: jdeq.DEQConfig) -> int | None:
        """See `Task`; of a GCN, its convolutions."""
        layers = len(config.layers)
        if config.explicit:
            return config.explicit * layers
        steps = super().unrolled(config, deq)
        return None if steps is None else steps * layers

    def rate(self, train: IGNNTrainConfig) -> optax.Schedule:
        """The same all the time, or halved once."""
        return own_rate(train)

    def optimizer(self, train: IGNNTrainConfig) -> optax.GradientTransformation:
        """Adam with the weight decay in the gradient, as published."""
        return adam(train)


def edges_of(batch: Mapping[str, Array]) -> Edges:
    """The edges of a batch."""
    return Edges(*(batch[name] for name in Edges._fields))


def _inputs(batch: Mapping[str, Array]) -> tuple[Any, ...]:
    """What a model is called with."""
    graph = batch.get("graph")
    n_graphs = None if graph is None else batch["mask"].shape[1]
    return batch["x"], edges_of(batch), graph, n_graphs


TASK = IGNNTask()
