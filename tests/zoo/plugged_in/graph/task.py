"""The graph network as a task: micro-F1, and accuracy besides."""

import jax
import jax.numpy as jnp
import optax
from jax import Array

import jdeq
from tests.zoo.plugged_in.graph.data import EDGES, NODES, random_graph
from tests.zoo.plugged_in.graph.model import GraphConfig, GraphModel
from zoo.figures import ACCURACY, Figure
from zoo.settings import Preset, TrainConfig
from zoo.solves import solve_means, solve_rows
from zoo.task import PredictingTask


def micro_f1(tp, fp, fn):
    """Of the counts of all nodes together."""
    return 2 * tp / (2 * tp + fp + fn)


class GraphTask(PredictingTask):
    """See `zoo.task`."""

    name = "graph"
    summary = "implicit graph network, labels of nodes"
    figures = {"micro-F1": Figure(("tp", "fp", "fn"), micro_f1), **ACCURACY}
    module = GraphModel
    presets = {
        "quick": Preset(
            summary="a random graph",
            model=GraphConfig(),
            deq=jdeq.DEQConfig(ift=True, f_solver="anderson", f_max_iter=30, f_tol=1e-4),
            train=TrainConfig(
                steps=40, batch_size=128, eval_batch_size=50, lr=0.1, eval_every=20, save_every=20
            ),
            data="random",
        )
    }

    def load_data(self, source, folder, *, model, meta):
        return random_graph()

    def loss(self, model, batch, key):
        logits, info = model(batch["features"], batch["edges"], key=key)
        logits, y = logits[batch["node"]], batch["y"]
        loss = optax.sigmoid_binary_cross_entropy(logits, y).mean()
        means = {name: value.mean() for name, value in _counts(logits, y).items()}
        return loss, {**means, **solve_means(info)}

    def evaluate(self, model, batch):
        logits, info = model(batch["features"], batch["edges"])
        logits, y = logits[batch["node"]], batch["y"]
        # one solve for the whole graph: each of its nodes has its figures
        rows = solve_rows(info, model.equilibrium.config)
        every = lambda a: jnp.broadcast_to(a, (len(y), *a.shape[1:])) if a.ndim else a
        loss = optax.sigmoid_binary_cross_entropy(logits, y).mean(-1)
        return {"loss": loss, **_counts(logits, y), **{k: every(a) for k, a in rows.items()}}

    def inference(self, model):
        def label(features, edges):
            logits, info = jax.vmap(model)(features, edges)
            return logits, info.rel_residual[:, 0]

        features = jnp.zeros((1, NODES, model.config.n_features))
        return label, (features, jnp.zeros((1, 2, EDGES), jnp.int32))


def _counts(logits: Array, y: Array) -> dict[str, Array]:
    """Of each node (B,)."""
    said, true = logits > 0, y > 0
    count = lambda a: jnp.sum(a, -1).astype(jnp.float32)
    return {
        "tp": count(said & true),
        "fp": count(said & ~true),
        "fn": count(~said & true),
        "accuracy": jnp.mean(said == true, -1, dtype=jnp.float32),
    }


TASK = GraphTask()
