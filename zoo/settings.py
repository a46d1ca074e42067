"""Settings of a model and of training, and the named starting points of a model."""

import dataclasses
from typing import Any, Literal

import jdeq
from jdeq.options import Options, option

ONGOING = ("resume",)  # a run that goes on may have another value


@dataclasses.dataclass(frozen=True)
class ModelConfig(Options, what="model option", commands=("train",)):
    """Base of a model's sizes: each is an option, or follows from the data."""


@dataclasses.dataclass(frozen=True)
class TrainConfig(Options, what="training option", commands=("train",)):
    """How long and how fast to train; the same settings for every model.

    Raises:
        TypeError, ValueError: a setting is out of range; the text names it and its value.
    """

    steps: int = option(
        1000, "optimiser steps; the learning rate decays over all of them", low=1, also=ONGOING
    )
    batch_size: int = option(64, "samples, or streams, per step", low=1)
    eval_batch_size: int = option(500, "the same of an evaluation batch", low=1, also=("eval",))
    lr: float = option(0.1, "initial learning rate", above=0)
    weight_decay: float = option(1e-4, "weight decay", low=0)
    schedule: Literal["own", "constant", "cosine", "linear"] = option(
        "own", "how the learning rate goes on; own: as is usual for the model"
    )
    warmup: int = option(
        0, "steps of linear warm-up before a schedule that is not the model's own", low=0
    )
    clip: float = option(0.0, "norm of the whole gradient at most; 0: any", low=0)
    accumulate: int = option(
        1, "batches per optimiser step, one after the other: less memory", low=1
    )
    compute_dtype: Literal["float32", "bfloat16"] = option(
        "float32", "of the computation; parameters and sums stay in float32"
    )
    ema: float = option(
        0.0, "share of the old in a moving average of parameters; 0: none", low=0, below=1
    )
    log_every: int = option(10, "steps between two lines of metrics.jsonl", low=1, also=ONGOING)
    eval_every: int = option(
        500, "steps between two evaluations (validation set; else test set)", low=1, also=ONGOING
    )
    save_every: int = option(500, "steps between two checkpoints", low=1, also=ONGOING)
    keep: int = option(
        2, "newest checkpoints to keep; the best one is kept besides", low=1, also=ONGOING
    )
    max_skips: int = option(
        10, "steps in a row without a finite loss or gradient: then stop", low=1, also=ONGOING
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup and self.schedule == "own":
            raise ValueError(f"warmup={self.warmup} needs a schedule that is not 'own'")

    @property
    def rows(self) -> int:
        """Samples, or streams, of an optimiser step."""
        return self.batch_size * self.accumulate


@dataclasses.dataclass(frozen=True)
class Preset:
    """A named starting point: sizes of the model, DEQ options, training, and which data."""

    summary: str
    model: Any
    deq: jdeq.DEQConfig
    train: TrainConfig
    data: str
