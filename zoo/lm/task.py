"""The language model as a task of the trainer."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike

import jdeq
from zoo.data.split import Data
from zoo.data.text import load_corpus
from zoo.data.vocabulary import Vocabulary
from zoo.errors import UserError
from zoo.figures import PERPLEXITY, unrolled_text
from zoo.lm.config import LMConfig
from zoo.lm.memory import Memory
from zoo.lm.original import LMOriginal
from zoo.lm.parity import quantities
from zoo.lm.presets import MAX_NORM, PRESETS
from zoo.lm.reader import Reader
from zoo.lm.sampler import Sampler, Sampling
from zoo.settings import TrainConfig
from zoo.solves import solve_means, solve_rows
from zoo.task import OriginalTask, PredictingTask, SamplingTask, SolvingTask

WARM_UP = 8 / 150  # share of the steps, in both designs


class LMTask(SolvingTask, PredictingTask, SamplingTask, OriginalTask):
    """See `zoo.task`."""

    name = "lm"
    summary = "DEQ transformer, language modelling"
    figures = PERPLEXITY
    presets = PRESETS
    sampling = Sampling()
    module = Reader
    weights = LMOriginal()
    quantities = staticmethod(quantities)

    def train_config(self, fields: Mapping[str, Any]) -> TrainConfig:
        """Training settings from a saved configuration; one without `clip` is an older one."""
        return super().train_config({"clip": MAX_NORM, **fields})

    def load_data(
        self, source: str, folder: pathlib.Path | None, *, model: LMConfig, meta: Mapping
    ) -> Data:
        """A corpus of `zoo.data.text`, in the vocabulary of the checkpoint if there is one."""
        vocabulary = Vocabulary.from_dict(meta.get("vocabulary")) if meta else None
        corpus = load_corpus(source, folder, vocabulary)
        data = corpus.data(length=model.tgt_len, eval_length=model.eval_tgt_len)
        return dataclasses.replace(data, sizes={"n_token": len(corpus.vocabulary)})

    def loss(
        self, model: Reader, batch: Mapping[str, Array], key: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Mean NLL, with the correction and the Jacobian penalty that are configured."""
        loss, nll, info = model.training_loss(batch, key)
        return loss, {"nll": nll.mean(), **solve_means(info)}

    def evaluate(self, model: Reader, batch: Mapping[str, Array]) -> dict[str, Array]:
        """NLL per token, and how the solve of each segment went."""
        nll, info = model.nll(batch)
        return {"nll": nll, "loss": nll, **solve_rows(info, model.lm.equilibrium.config)}

    def inference(
        self, model: Reader
    ) -> tuple[Callable[[Array], tuple[Array, Array]], tuple[Array, ...]]:
        """A text's log probabilities, with nothing remembered of what came before it.

        Tokens (B, L) int32 -> log probabilities (B, L, n_token) of each next token, and residuals
        (B,); L is `eval_tgt_len`.
        """
        lm = model.lm

        def predict(tokens: Array) -> tuple[Array, Array]:
            hidden, info, _ = lm(tokens, Memory.empty(lm.config, tokens.shape[0], 0))
            return lm.vocabulary.log_probs(hidden), info.rel_residual

        return predict, (jnp.zeros((1, lm.config.eval_tgt_len), jnp.int32),)

    def equilibrium(
        self, model: Reader, batch: Mapping[str, Array]
    ) -> tuple[Callable[[Array], Array], Array]:
        """The blocks as they read a batch with nothing remembered, and their fixed point."""
        tokens = batch["x"]
        lm = model.lm
        context = lm.encode(tokens, Memory.empty(lm.config, len(tokens), 0))
        return lm.equilibrium.f(context), lm.equilibrium(context)[0]

    def unrolled(self, config: LMConfig, deq: jdeq.DEQConfig) -> int | None:
        """See `Task`; an explicit transformer applies its blocks once."""
        return super().unrolled(config, deq.without_solver() if config.explicit else deq)

    def rate(self, train: TrainConfig) -> optax.Schedule:
        """Linear to `lr`, then `lr (1 + cos(pi step / steps)) / 2`, counted from step 0."""
        warm_up = max(1.0, WARM_UP * train.steps)

        def schedule(step: ArrayLike) -> Array:
            step = jnp.asarray(step)
            cosine = 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(step / train.steps, 1)))
            return train.lr * jnp.where(step < warm_up, step / warm_up, cosine)

        return schedule

    def sample(self, model: Reader, meta: Mapping[str, Any], sampling: Sampling) -> str:
        """The prompt continued, and how fast that went."""
        if not meta:
            raise UserError(
                "the checkpoint has no vocabulary; give --data DIR with the text it is made of"
            )
        vocabulary = Vocabulary.from_dict(meta.get("vocabulary"))
        if sampling.top_k > len(vocabulary):
            raise UserError(f"--top_k {sampling.top_k} is more than the {len(vocabulary)} tokens")
        prompt = vocabulary.encode(sampling.prompt).tolist()
        if not prompt:
            raise UserError(f"--prompt {sampling.prompt!r} has no words")
        sampler = Sampler(model.lm, sampling, warm=not sampling.cold)
        drawn = sampler.continued(prompt, sampling.length, seed=sampling.seed)
        steps = self.unrolled(model.lm.config, model.lm.equilibrium.config)
        what, how = "fixed point", f"NFE {np.mean(drawn.nfe or [np.nan]):.1f}"
        if steps is not None:
            what, how = "state", unrolled_text(steps)
        start = "zero" if sampling.cold else f"the last token's {what}"
        return (
            f"{vocabulary.decode([*prompt, *drawn.tokens])}\n\n{sampling.length} tokens, "
            f"{drawn.tokens_per_second:.0f} tokens/s, solves from {start}, {how}"
        )


TASK = LMTask()
