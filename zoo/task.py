"""What a model provides to be trained, evaluated and checked from the command line."""

import argparse
import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import optax
from flax import nnx
from jax import Array

import jdeq
from zoo.logs.metrics import Metric
from zoo.options import option
from zoo.parity import Row

SCHEDULES = ("own", "constant", "cosine", "linear")
COMPUTE_DTYPES = ("float32", "bfloat16")

Batch = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How long and how fast to train; the same settings for every model.

    Raises:
        ValueError: a setting is out of range; the text names it and its value.
    """

    steps: int = option(1000, "optimiser steps; the learning rate decays over all of them")
    batch_size: int = option(64, "samples, or streams, per step")
    eval_batch_size: int = option(500, "the same of an evaluation batch", also=("eval",))
    lr: float = option(0.1, "initial learning rate")
    weight_decay: float = option(1e-4, "weight decay")
    schedule: str = option("own", "of the rate: own (the model's), constant, cosine or linear")
    warmup: int = option(0, "steps of linear warm-up before a schedule that is not the model's own")
    clip: float = option(0.0, "norm of the whole gradient at most; 0: any")
    accumulate: int = option(1, "batches per optimiser step, one after the other: less memory")
    compute_dtype: str = option("float32", "or bfloat16; parameters and sums stay in float32")
    ema: float = option(0.0, "share of the old in a moving average of parameters; 0: none")
    log_every: int = option(10, "steps between two lines of metrics.jsonl")
    eval_every: int = option(500, "steps between two evaluations (validation set; else test set)")
    save_every: int = option(500, "steps between two checkpoints")
    keep: int = option(2, "newest checkpoints to keep; the best one is kept besides")
    max_skips: int = option(10, "steps in a row without a finite loss or gradient: then stop")

    def __post_init__(self):
        for name in ("steps", "batch_size", "eval_batch_size", "accumulate") + CADENCE:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.lr > 0:
            raise ValueError(f"lr must be positive, got {self.lr}")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay}")
        if not self.clip >= 0:
            raise ValueError(f"clip must not be negative, got {self.clip}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must be in [0, 1), got {self.ema}")
        for name, known in (("schedule", SCHEDULES), ("compute_dtype", COMPUTE_DTYPES)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}"
                )
        if self.warmup < 0 or (self.warmup and self.schedule == "own"):
            raise ValueError(
                f"warmup must not be negative, and needs a schedule {', '.join(SCHEDULES[1:])}, "
                f"got {self.warmup} with {self.schedule}"
            )

    @property
    def rows(self) -> int:
        """Samples, or streams, of an optimiser step."""
        return self.batch_size * self.accumulate


# what a resumed run may change
CADENCE = ("log_every", "eval_every", "save_every", "keep", "max_skips")


@dataclasses.dataclass(frozen=True)
class Preset:
    """A named starting point: sizes of the model, DEQ options, training, and which data."""

    summary: str
    model: Any
    deq: jdeq.DEQConfig
    train: TrainConfig
    data: str


class Split(Protocol):
    """One part of a data set, as batches: `zoo.data` has independent samples and streams."""

    def check_batch_size(self, batch_size: int) -> None:
        """Raises `UserError` if there is not enough for one training batch."""
        ...

    def train_batches(
        self, batch_size: int, *, seed: int, start: int, stop: int, rows: slice = slice(None)
    ) -> Iterator[Batch]:
        """The batches of steps `start` to `stop - 1`, each given by the seed and its step alone.

        With `rows`, only these rows of them are read: another process reads the others.
        """
        ...

    def eval_batches(self, batch_size: int) -> Iterator[tuple[Batch, np.ndarray]]:
        """The whole split in order, all batches of one shape, each with its weights.

        Weights (B,), or (B, L) for sequences, are 1 for what counts and 0 for what fills up.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Data:
    """The splits of a data set, and what the model must know of it.

    Args:
        train, test: what to learn from, and what the result is measured on.
        valid: what a run is watched on while it trains; `test` if there is none.
        sizes: fields of the model's configuration that follow from the data.
        meta: what the parameters are of no use without (a vocabulary), as plain values for
            JSON; saved with every checkpoint.
    """

    train: Split
    test: Split
    valid: Split | None = None
    sizes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Task(Protocol):
    """One model of the zoo. A task holds no state: what a run needs is in its settings."""

    name: str
    summary: str
    metric: Metric
    presets: Mapping[str, Preset]

    def model_config(self, fields: Mapping[str, Any]) -> Any:
        """Sizes from a saved configuration."""
        ...

    def train_config(self, fields: Mapping[str, Any]) -> TrainConfig:
        """Training settings from a saved configuration; a task may have more than others."""
        ...

    def build(self, config: Any, deq: jdeq.DEQConfig, *, rngs: nnx.Rngs) -> nnx.Module:
        """A model with fresh weights."""
        ...

    def load_data(
        self, source: str, folder: pathlib.Path | None, *, model: Any, meta: Mapping[str, Any]
    ) -> Data:
        """The data of a preset, for a model of configuration `model`.

        `meta` is empty, or that of the checkpoint which the data are for. Raises `UserError` if
        the data are not in `folder`, or are not what the checkpoint can read.
        """
        ...

    def loss(
        self, model: Any, batch: Mapping[str, Array], key: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Training loss () and scalar metrics: what the metric is made of, `residual`, `nfe`.

        It may write to variables of the model that are not parameters: statistics, `Carry`.
        """
        ...

    def evaluate(self, model: Any, batch: Mapping[str, Array]) -> dict[str, Array]:
        """What the metric is made of, `loss`, `residual`, `converged`; `trace` (B, max_iter).

        Each is per sample (B,), or per token (B, L) where that makes sense; `nfe` () is that of
        the batch. Residuals are those that the solver's `tol` is for, apart from `residual`,
        which is relative. `Carry` that it writes is there again for the next batch.
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

    def inference(self, model: Any) -> tuple[Callable[..., tuple[Array, Array]], tuple[Array, ...]]:
        """What a trained model, in evaluation mode, is for: a function, and inputs of one sample.

        Inputs have a batch axis, which may have any length. The function returns what the model
        makes of them, and the relative residual of each sample's solve (B,).
        """
        ...

    def parity(self, args: argparse.Namespace) -> list[Row]:
        """Compares with the reference folder `args.folder`."""
        ...


@runtime_checkable
class SolvingTask(Task, Protocol):
    """A model whose equilibrium can be looked at."""

    def equilibrium(
        self, model: Any, batch: Mapping[str, Array]
    ) -> tuple[Callable[[Any], Any], Any]:
        """The function `f` of a batch, and the state `z = f(z)` that was found for it."""
        ...


@runtime_checkable
class SamplingTask(Task, Protocol):
    """A model that something can be drawn from."""

    def add_sample_options(self, group: Any) -> None:
        """Adds to the options of `sample`; there is `--seed` already."""
        ...

    def sample(self, model: Any, meta: Mapping[str, Any], args: argparse.Namespace) -> str:
        """What was drawn, for people. `model` is in evaluation mode; `meta` is that of its data.

        Raises `UserError` for options that do not go with the model.
        """
        ...
