"""What a model provides to be trained, evaluated and checked from the command line."""

import argparse
import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import optax
from flax import nnx
from jax import Array

import jdeq
from zoo.options import option
from zoo.parity import Row

Batch = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How long and how fast to train; the same settings for every model.

    Raises:
        ValueError: a setting is out of range; the text names it and its value.
    """

    steps: int = option(1000, "optimiser steps; the learning rate decays over all of them")
    batch_size: int = option(64, "samples per step")
    eval_batch_size: int = option(500, "samples per evaluation batch")
    lr: float = option(0.1, "initial learning rate")
    weight_decay: float = option(1e-4, "weight decay")
    log_every: int = option(10, "steps between two lines of metrics.jsonl")
    eval_every: int = option(500, "steps between two evaluations on the test set")
    save_every: int = option(500, "steps between two checkpoints")

    def __post_init__(self):
        for name in ("steps", "batch_size", "eval_batch_size") + CADENCE:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.lr > 0:
            raise ValueError(f"lr must be positive, got {self.lr}")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay}")


CADENCE = ("log_every", "eval_every", "save_every")  # what a resumed run may change


@dataclasses.dataclass(frozen=True)
class Preset:
    """A named starting point: sizes of the model, DEQ options, training, and which data."""

    summary: str
    model: Any
    deq: jdeq.DEQConfig
    train: TrainConfig
    data: str


@dataclasses.dataclass(frozen=True)
class Data:
    """Both splits in memory, as arrays with the sample axis first, by name.

    `augment(batch, rng)` may change a training batch; it must depend on its arguments only.
    """

    train: Batch
    test: Batch
    augment: Callable[[Batch, np.random.Generator], Batch] | None = None


class Task(Protocol):
    """One model of the zoo. A task holds no state: what a run needs is in its settings."""

    name: str
    summary: str
    metric: str  # key of `evaluate` that is averaged into the figure of merit
    presets: Mapping[str, Preset]

    def model_config(self, fields: Mapping[str, Any]) -> Any:
        """Sizes from a saved configuration."""
        ...

    def build(self, config: Any, deq: jdeq.DEQConfig, *, rngs: nnx.Rngs) -> nnx.Module:
        """A model with fresh weights."""
        ...

    def load_data(self, source: str, folder: pathlib.Path | None) -> Data:
        """The data of a preset; raises `UserError` if it is not in `folder`."""
        ...

    def loss(
        self, model: Any, batch: Mapping[str, Array], key: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Training loss () and scalar metrics: the metric, `residual`, `nfe`."""
        ...

    def evaluate(self, model: Any, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Per sample (B,): the metric, `loss`, `residual`, `converged`; `trace` (B, max_iter).

        `nfe` () is that of the batch. Residuals are those that the solver's `tol` is for, apart
        from `residual`, which is relative.
        """
        ...

    def optimizer(self, train: TrainConfig) -> optax.GradientTransformation:
        """The optimiser with its learning-rate schedule."""
        ...

    def from_upstream(self, content: Mapping[str, Any]) -> tuple[Any, jdeq.DEQConfig]:
        """Sizes and DEQ options from the PyTorch original's configuration.

        Raises `UserError`, `KeyError`, `TypeError` or `ValueError` if it cannot be used.
        """
        ...

    def import_state_dict(self, model: Any, arrays: Mapping[str, np.ndarray]) -> None:
        """Overwrites all arrays of a model with those of a PyTorch state dict, in place.

        Raises `UserError` listing all keys that do not fit.
        """
        ...

    def export_state_dict(self, model: Any) -> dict[str, np.ndarray]:
        """The inverse: the arrays under their PyTorch names."""
        ...

    def parity(self, args: argparse.Namespace) -> list[Row]:
        """Compares with the reference folder `args.folder`."""
        ...
