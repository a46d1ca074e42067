"""The MDEQ as a task of the trainer: image classification."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from zoo.data.cifar10 import cifar10, crop_and_flip
from zoo.data.digits import digits
from zoo.data.samples import Samples
from zoo.data.split import Data
from zoo.errors import UserError
from zoo.figures import ACCURACY
from zoo.mdeq.config import MDEQConfig
from zoo.mdeq.full_stage import State
from zoo.mdeq.model import MDEQ
from zoo.mdeq.original import MDEQOriginal
from zoo.mdeq.parity import quantities
from zoo.mdeq.presets import PRESETS
from zoo.pictures import Pictures
from zoo.precision import wide
from zoo.schedules import learning_rate
from zoo.settings import TrainConfig
from zoo.solves import solve_means, solve_rows
from zoo.task import OriginalTask, PicturingTask, PredictingTask, SolvingTask

FINAL_LR = 1e-6


class MDEQTask(SolvingTask, PredictingTask, PicturingTask, OriginalTask):
    """See `zoo.task`."""

    name = "mdeq"
    summary = "multiscale DEQ, image classification"
    figures = ACCURACY
    presets = PRESETS
    module = MDEQ
    weights = MDEQOriginal()
    quantities = staticmethod(quantities)
    low_precision = ("x",)

    def load_data(
        self, source: str, folder: pathlib.Path | None, *, model: MDEQConfig, meta: Mapping
    ) -> Data:
        """Digits, or CIFAR-10 from `folder`."""
        if source == "digits":
            if folder is not None:
                raise UserError("this preset reads the digits of scikit-learn: it takes no --data")
            return dataclasses.replace(digits(), sizes=_sizes((8, 8), 1))
        train, test = cifar10(folder)
        augment = crop_and_flip if source == "cifar10-augmented" else None
        return Data(Samples(train, augment), Samples(test), sizes=_sizes((32, 32), 3))

    def loss(
        self, model: MDEQ, batch: Mapping[str, Array], key: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Mean cross entropy; earlier states of the solve count less, by `gamma` each.

        Plus the Jacobian penalty, if one is configured.
        """
        x = model.encode(batch["x"])
        z_star, info = model.full_stage(x, key=key)
        logits = [model.decode(z) for z in info.states or (z_star,)]
        loss = model.full_stage.correction(
            lambda each: _cross_entropy(each, batch["y"]).mean(), logits
        )
        return loss + model.full_stage.jac_loss(x, z_star, key), {
            "accuracy": _correct(logits[-1], batch["y"]).mean(),
            **solve_means(info),
        }

    def evaluate(self, model: MDEQ, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Per sample: correct or not, cross entropy, and how the solve went."""
        logits, info = model(batch["x"])
        return {
            "accuracy": _correct(logits, batch["y"]),
            "loss": _cross_entropy(logits, batch["y"]),
            "predicted": jnp.argmax(logits, -1),
            **solve_rows(info, model.full_stage.config),
        }

    def equilibrium(
        self, model: MDEQ, batch: Mapping[str, Array]
    ) -> tuple[Callable[[State], State], State]:
        """The full stage with the injections of a batch of images, and its fixed point."""
        x = model.encode(batch["x"])
        return model.full_stage.f(x), model.full_stage(x)[0]

    def pictures(self, batch: Mapping[str, np.ndarray], predicted: np.ndarray) -> Pictures:
        """Images, with the numbers of their classes."""
        return Pictures(batch["x"], [str(y) for y in batch["y"]], [str(y) for y in predicted])

    def optimizer(self, train: TrainConfig) -> optax.GradientTransformation:
        """SGD with momentum 0.9; the weight decay is part of the gradient, as published."""
        final = min(1.0, FINAL_LR / train.lr)
        own = optax.cosine_decay_schedule(train.lr, train.steps, alpha=final)
        sgd = optax.sgd(learning_rate(train, own), momentum=0.9)
        return optax.chain(optax.add_decayed_weights(train.weight_decay), sgd)

    def inference(
        self, model: MDEQ
    ) -> tuple[Callable[[Array], tuple[Array, Array]], tuple[Array, ...]]:
        """Images (B, H, W, C), standardised -> logits (B, n_classes) and residuals (B,)."""

        def classify(x: Array) -> tuple[Array, Array]:
            logits, info = model(x)
            return logits, info.rel_residual

        config = model.config
        return classify, (jnp.zeros((1, *config.image_size, config.in_channels)),)


def _sizes(image_size: tuple[int, int], in_channels: int) -> dict[str, Any]:
    return {"n_classes": 10, "in_channels": in_channels, "image_size": image_size}


def _cross_entropy(logits: Array, labels: Array) -> Array:
    return optax.softmax_cross_entropy_with_integer_labels(wide(logits), labels)


def _correct(logits: Array, labels: Array) -> Array:
    return (jnp.argmax(logits, -1) == labels).astype(jnp.float32)


TASK = MDEQTask()
