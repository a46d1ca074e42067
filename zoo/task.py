"""What a model provides to be trained, evaluated and checked from the command line."""

import abc
import pathlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np
import optax
from flax import nnx
from jax import Array

import jdeq
from jdeq.options import Options
from zoo.data.split import Data
from zoo.figures import Figures
from zoo.pictures import Pictures
from zoo.schedules import learning_rate
from zoo.settings import Preset, TrainConfig
from zoo.solves import unrolled_steps
from zoo.upstream.original import Original
from zoo.upstream.reference import Reference
from zoo.upstream.rows import Row
from zoo.upstream.weights import Weights


class Task(abc.ABC):
    """One model of the zoo. A task holds no state: what a run needs is in its settings.

    What not every model can do is in the subclasses below, of which a task takes those that fit.

    Attributes:
        name, summary: for the command line.
        figures: what the model is judged by: the first of them, above all.
        presets: its named starting points, the default one first. The classes of their sizes and
            training settings are those of every run.
        module: makes a model with fresh weights, as `module(sizes, deq, rngs=rngs)`.
        weights: how its arrays are called in a state dict; a `zoo.upstream.original.Original` if
            the model has one.
        trained: an nnx filter, of the variables that are trained. Parameters that it leaves out
            are frozen: a model's, for instance, beside which its solver is trained.
        low_precision: entries of a training batch which `--compute_dtype` is for. All others stay
            as the data have them: coordinates and targets must not be rounded.
    """

    name: str
    summary: str
    figures: Figures
    presets: Mapping[str, Preset]
    module: Callable[..., nnx.Module]
    weights: Weights = Weights()
    trained: Any = nnx.Param
    low_precision: Collection[str] = ()

    @abc.abstractmethod
    def load_data(
        self, source: str, folder: pathlib.Path | None, *, model: Any, meta: Mapping[str, Any]
    ) -> Data:
        """The data of a preset, for a model of configuration `model`.

        `meta` is empty, or that of the checkpoint which the data are for. Raises `UserError` if
        the data are not in `folder`, or are not what the checkpoint can read.
        """

    @abc.abstractmethod
    def loss(
        self, model: Any, batch: Mapping[str, Array], key: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Training loss () and means over the batch: what figures are made of, `residual`, `nfe`.

        It may write to variables of the model that are not parameters: statistics, `Carry`.
        `zoo.solves.solve_means` gives those that are of the solve.
        """

    @abc.abstractmethod
    def evaluate(self, model: Any, batch: Mapping[str, Array]) -> dict[str, Array]:
        """What the figures are made of, `loss`, `residual`, `converged`; `trace` (B, max_iter).

        Each is per sample (B, ...), or per token (B, L, ...) where that makes sense; of further
        axes a figure gets arrays. `nfe` () is that of the batch. Residuals are those that the
        solver's `tol` is for, apart from `residual`, which is relative. `Carry` that it writes is
        there again for the next batch. `zoo.solves.solve_rows` gives those that are of the solve.
        """

    def model_config(self, fields: Mapping[str, Any]) -> Any:
        """Sizes from a saved configuration."""
        return type(self._default.model).from_dict(fields)

    def train_config(self, fields: Mapping[str, Any]) -> TrainConfig:
        """Training settings from a saved configuration; a task may have more than others."""
        return type(self._default.train).from_dict(fields)

    def build(self, config: Any, deq: jdeq.DEQConfig, *, rngs: nnx.Rngs) -> Any:
        """A model with fresh weights."""
        return self.module(config, deq, rngs=rngs)

    def unrolled(self, config: Any, deq: jdeq.DEQConfig) -> int | None:
        """How often the cell is applied if nothing is solved for: then nothing converges either.

        None if there is a solver.
        """
        del config
        return unrolled_steps(deq)

    def rate(self, train: TrainConfig) -> optax.Schedule:
        """The model's own learning-rate schedule: along a cosine to zero."""
        return optax.cosine_decay_schedule(train.lr, train.steps)

    def optimizer(self, train: TrainConfig) -> optax.GradientTransformation:
        """The optimiser with its schedule: Adam, with decoupled weight decay."""
        rate = learning_rate(train, self.rate(train))
        return optax.adamw(rate, weight_decay=train.weight_decay)

    @property
    def _default(self) -> Preset:
        return next(iter(self.presets.values()))


class SolvingTask(Task):
    """A model whose equilibrium can be looked at."""

    @abc.abstractmethod
    def equilibrium(
        self, model: Any, batch: Mapping[str, Array]
    ) -> tuple[Callable[[Any], Any], Any]:
        """The function `f` of a batch, and the state `z = f(z)` that was found for it."""


class PicturingTask(Task):
    """A model of images, whose predictions can be shown; `evaluate` returns `predicted` (B,)."""

    @abc.abstractmethod
    def pictures(self, batch: Mapping[str, np.ndarray], predicted: np.ndarray) -> Pictures:
        """Some test samples, in a batch, with what `evaluate` said of each."""


class PredictingTask(Task):
    """A model that is a function of arrays, and can be a program of its own."""

    @abc.abstractmethod
    def inference(self, model: Any) -> tuple[Callable[..., tuple[Array, Array]], tuple[Array, ...]]:
        """What a trained model, in evaluation mode, is for: a function, and inputs of one sample.

        Inputs have a batch axis, which may have any length. The function returns what the model
        makes of them, and the relative residual of each sample's solve (B,).
        """


class SamplingTask(Task):
    """A model that something can be drawn from.

    Attributes:
        sampling: the options of `sample`, with their defaults.
    """

    sampling: Options

    @abc.abstractmethod
    def sample(self, model: Any, meta: Mapping[str, Any], sampling: Any) -> str:
        """What was drawn, for people, with these options.

        `model` is in evaluation mode; `meta` is that of its data, empty if it is not known.

        Raises `UserError` for options that do not go with the model.
        """


class OriginalTask(Task):
    """A model with a PyTorch original that it can be compared with.

    Attributes:
        weights: what it states of the original.
        quantities: compares all that a reference folder holds, in float64 (a `staticmethod`).
    """

    weights: Original
    quantities: Callable[[Reference], Iterator[Row]]
