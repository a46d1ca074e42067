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
from zoo.figures import Figures
from zoo.settings import Preset, TrainConfig
from zoo.upstream.rows import Row

Batch = Mapping[str, np.ndarray]


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
    figures: Figures
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
        """Training loss () and means over the batch: what figures are made of, `residual`, `nfe`.

        It may write to variables of the model that are not parameters: statistics, `Carry`.
        """
        ...

    def evaluate(self, model: Any, batch: Mapping[str, Array]) -> dict[str, Array]:
        """What the figures are made of, `loss`, `residual`, `converged`; `trace` (B, max_iter).

        Each is per sample (B, ...), or per token (B, L, ...) where that makes sense; of further
        axes a figure gets arrays. `nfe` () is that of the batch. Residuals are those that the
        solver's `tol` is for, apart from `residual`, which is relative. `Carry` that it writes is
        there again for the next batch.
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
