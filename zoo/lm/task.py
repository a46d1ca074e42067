"""The language model as a task of the trainer."""

import argparse
import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from jax.typing import ArrayLike

import jdeq
from zoo.data.text import load_corpus
from zoo.data.vocabulary import Vocabulary
from zoo.lm import parity, upstream
from zoo.lm.config import LMConfig
from zoo.lm.presets import PRESETS
from zoo.lm.reader import Reader
from zoo.lm.torch_names import import_state_dict, lm_state_dict
from zoo.metrics import PERPLEXITY
from zoo.parity import Row
from zoo.reference import deq_config
from zoo.task import Data, Preset, TrainConfig

WARM_UP = 8 / 150  # share of the steps, in both designs
MAX_NORM = 0.25  # of the gradient


class LMTask:
    """See `zoo.task.Task`."""

    name = "lm"
    summary = "DEQ transformer, language modelling"
    metric = PERPLEXITY
    presets: Mapping[str, Preset] = PRESETS

    def model_config(self, fields: Mapping[str, Any]) -> LMConfig:
        """Sizes from a saved configuration."""
        return LMConfig(**fields)

    def train_config(self, fields: Mapping[str, Any]) -> TrainConfig:
        """Training settings from a saved configuration."""
        return TrainConfig(**fields)

    def build(self, config: LMConfig, deq: jdeq.DEQConfig, *, rngs: nnx.Rngs) -> Reader:
        """A model with fresh weights and nothing remembered."""
        return Reader(config, deq, rngs=rngs)

    def load_data(
        self, source: str, folder: pathlib.Path | None, *, model: LMConfig, meta: Mapping
    ) -> Data:
        """A corpus of `zoo.data.text`, in the vocabulary of the checkpoint if there is one."""
        vocabulary = Vocabulary.from_dict(meta["vocabulary"]) if meta else None
        corpus = load_corpus(source, folder, vocabulary)
        data = corpus.data(length=model.tgt_len, eval_length=model.eval_tgt_len)
        return dataclasses.replace(data, sizes={"n_token": len(corpus.vocabulary)})

    def loss(
        self, model: Reader, batch: Mapping[str, Array], key: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Mean NLL, with the correction and the Jacobian penalty that are configured."""
        loss, nll, info = model.training_loss(batch, key)
        return loss, {"nll": nll.mean(), "residual": info.rel_residual.mean(), "nfe": info.nfe}

    def evaluate(self, model: Reader, batch: Mapping[str, Array]) -> dict[str, Array]:
        """NLL per token, and how the solve of each segment went."""
        nll, info = model.nll(batch)
        relative = model.lm.equilibrium.config.f_stop_mode == "rel"
        return {
            "nll": nll,
            "loss": nll,
            "residual": info.rel_residual,
            "converged": info.converged,
            "trace": info.rel_trace if relative else info.abs_trace,
            "nfe": info.nfe,
        }

    def optimizer(self, train: TrainConfig) -> optax.GradientTransformation:
        """Adam with clipped gradients; linear warm-up, then the published cosine."""
        return optax.chain(
            optax.clip_by_global_norm(MAX_NORM),
            optax.adamw(learning_rate(train), weight_decay=train.weight_decay),
        )

    def from_upstream(self, content: Mapping[str, Any]) -> tuple[LMConfig, jdeq.DEQConfig]:
        """Sizes and DEQ options from the PyTorch original's configuration."""
        config = upstream.model_config(content)
        return config, deq_config("deq_args", upstream.deq_options(content))

    def import_state_dict(self, model: Reader, arrays: Mapping[str, np.ndarray]) -> None:
        """Overwrites all arrays of the model with those of a PyTorch state dict."""
        import_state_dict(model.lm, arrays)

    def export_state_dict(self, model: Reader) -> dict[str, np.ndarray]:
        """The inverse."""
        return lm_state_dict(model.lm)

    def parity(self, args: argparse.Namespace) -> list[Row]:
        """Compares with the PyTorch original."""
        return parity.check(args.folder)


def learning_rate(train: TrainConfig) -> optax.Schedule:
    """Linear to `lr`, then `lr (1 + cos(pi step / steps)) / 2`, counted from step 0."""
    warm_up = max(1.0, WARM_UP * train.steps)

    def schedule(step: ArrayLike) -> Array:
        step = jnp.asarray(step)
        cosine = 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(step / train.steps, 1)))
        return train.lr * jnp.where(step < warm_up, step / warm_up, cosine)

    return schedule


TASK = LMTask()
