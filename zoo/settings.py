"""Settings of training, and the named starting points of a model."""

import dataclasses
from typing import Any

import jdeq
from zoo.options import option

SCHEDULES = ("own", "constant", "cosine", "linear")
COMPUTE_DTYPES = ("float32", "bfloat16")


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
