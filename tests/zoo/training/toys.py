"""Small tasks of kinds that the zoo's models are not, for the trainer to be tried with."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

import jdeq
from tests.zoo.toy_lm import ToyConfig, ToyTask
from zoo.data.split import Data
from zoo.devices.mesh import Devices
from zoo.figures import ACCURACY, Figure, Figures, mean
from zoo.run import RunConfig
from zoo.settings import TrainConfig
from zoo.training.trainer import Trainer


def f1(*counts: Any) -> float:
    """Of true positives, false positives and false negatives, all nodes together."""
    tp, fp, fn = map(np.sum, counts)
    return 2 * tp / (2 * tp + fp + fn)


MICRO_F1 = Figure(("tp", "fp", "fn"), f1)
PSNR = Figure(("mse",), lambda mse: -10 * np.log10(mse), "{:.2f} dB".format)
END_POINT_ERROR = Figure(
    ("epe", "known"), lambda epe, known: epe / known, "{:.2f} px".format, higher_is_better=False
)
PRESET = ToyTask.presets["quick"]
NODES, FEATURES, CLASSES = 6, 3, 4


def solved(rows: int) -> dict[str, Array]:
    """What is said of a solve, by those that have none."""
    none = jnp.zeros(rows)
    return {"residual": none, "converged": none + 1, "trace": none[:, None], "nfe": jnp.zeros(())}


class OfMeans(ToyTask):
    """A task whose training loss is the mean of what `evaluate` puts out."""

    step_size = 0.3

    def loss(self, model: Any, batch: Any, key: Array) -> Any:
        outputs = {name: a.mean() for name, a in self.evaluate(model, batch).items()}
        outputs.pop("trace")
        return outputs["loss"], outputs

    def optimizer(self, train: TrainConfig) -> optax.GradientTransformation:
        return optax.sgd(self.step_size)


class Graph(nnx.Module):
    """Labels of nodes, by what their neighbours have."""

    def __init__(self, rngs: nnx.Rngs):
        self.near, self.own = (nnx.Linear(FEATURES, CLASSES, rngs=rngs) for _ in range(2))

    def __call__(self, x: Array, edges: Array) -> Array:
        """x (B, N, F), edges (2, E) -> (B, N, C)."""
        source, target = edges
        near = jnp.zeros_like(x).at[:, target].add(x[:, source])
        return self.near(near) + self.own(x)


class GraphTask(OfMeans):
    """Several labels of each node; all graphs of a batch have the same edges."""

    figures: Figures = {"micro-F1": MICRO_F1, **ACCURACY}

    def __init__(self):
        self.evaluations = 0

    def build(self, config: Any, deq: Any, *, rngs: nnx.Rngs) -> Graph:
        return Graph(rngs)

    def evaluate(self, model: Graph, batch: Any) -> dict[str, Array]:
        self.evaluations += 1
        logits, y = model(batch["x"], batch["edges"]), batch["y"]
        said = logits > 0
        count = lambda a: jnp.sum(a, -1).astype(jnp.float32)
        return solved(len(y)) | {
            "tp": count(said & (y == 1)),
            "fp": count(said & (y == 0)),
            "fn": count(~said & (y == 1)),
            "accuracy": (said == (y == 1)).mean(-1),
            "loss": optax.sigmoid_binary_cross_entropy(logits, y).mean(-1),
        }


class Image(nnx.Module):
    """An image as a function of where one looks."""

    def __init__(self, rngs: nnx.Rngs):
        self.linear = nnx.Linear(2, 1, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        return jnp.sin(3 * self.linear(x))[..., 0]


class ImageTask(OfMeans):
    """Regression; what it is judged by are no means of single values."""

    figures: Figures = {
        "PSNR": PSNR,
        "EPE": END_POINT_ERROR,
        "outliers": mean("outlier", "{:.1%}".format, higher_is_better=False),
    }

    def __init__(self, low_precision: tuple[str, ...] = ()):
        self.low_precision = low_precision
        self.seen = {}

    def build(self, config: Any, deq: Any, *, rngs: nnx.Rngs) -> Image:
        return Image(rngs)

    def evaluate(self, model: Image, batch: Any) -> dict[str, Array]:
        self.seen = {name: a.dtype.name for name, a in batch.items()}
        error = model(batch["x"]) - batch["y"]
        known = jnp.abs(batch["y"]) < 0.5
        return solved(len(error)) | {
            "mse": error**2,
            "epe": jnp.where(known, jnp.abs(error), 0.0),
            "known": known.astype(jnp.float32),
            "outlier": (jnp.abs(error) > 0.3).astype(jnp.float32),
            "loss": error**2,
        }


class Accelerated(nnx.Module):
    """A model z = tanh(W z + x) that is given, and a guess at z* that is learnt."""

    def __init__(self, rngs: nnx.Rngs):
        self.cell = nnx.Linear(3, 3, rngs=rngs)
        self.guess = nnx.Linear(3, 3, rngs=rngs)

    def solve(self, x: Array) -> tuple[Array, jdeq.SolverInfo]:
        z0 = jax.lax.stop_gradient(self.guess(x))
        f = lambda z: jnp.tanh(0.5 * self.cell(z) + x)
        return jdeq.deq(f, z0, solver="fixed_point_iter", max_iter=50, tol=1e-4)


class AcceleratedTask(OfMeans):
    """Trains the guess; the model stays as it is."""

    trained = nnx.All(nnx.Param, nnx.PathContains("guess"))
    figures: Figures = {"steps": mean("steps", "{:.2f}".format, higher_is_better=False)}

    def build(self, config: Any, deq: Any, *, rngs: nnx.Rngs) -> Accelerated:
        return Accelerated(rngs)

    def evaluate(self, model: Accelerated, batch: Any) -> dict[str, Array]:
        z, info = model.solve(batch["x"])
        missed = jnp.sum((model.guess(batch["x"]) - jax.lax.stop_gradient(z)) ** 2, -1)
        return {
            "loss": missed,
            "steps": info.steps.astype(jnp.float32),
            "residual": info.rel_residual,
            "converged": info.converged,
            "trace": info.rel_trace,
            "nfe": info.nfe,
        }


def trainer(task: Any, data: Data, devices: Devices | None = None, **train: Any) -> Trainer:
    """Of a few steps, with these settings."""
    settings = {"batch_size": 8, "eval_batch_size": 8, "steps": 4, "log_every": 1, "clip": 0.0}
    settings |= {"eval_every": 2, "save_every": 4}
    settings = dataclasses.replace(PRESET.train, **settings | train)
    deq = dataclasses.replace(PRESET.deq, f_stop_mode="rel", f_tol=0.1, b_tol=0.1)  # for bfloat16
    config = RunConfig("toy", "quick", "none", 0, ToyConfig(), deq, settings)
    return Trainer(task, config, data, devices)
