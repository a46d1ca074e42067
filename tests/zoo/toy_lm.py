"""A small recurrent language model: all that the trainer asks of one with memory.

`python -m tests.zoo.toy_lm train toy ...` is the command line with this model.
"""

import dataclasses
import sys
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import jdeq
from jdeq.options import from_data, option
from zoo.cli import main
from zoo.data.text import load_corpus
from zoo.data.vocabulary import Vocabulary
from zoo.figures import PERPLEXITY
from zoo.nn.carry import Carry, forget
from zoo.registry import register_task
from zoo.schedules import learning_rate
from zoo.settings import ModelConfig, Preset, TrainConfig
from zoo.task import PredictingTask

TEXT = "the quick brown fox jumps over the lazy dog\n" * 40  # for it to read


@dataclasses.dataclass(frozen=True)
class ToyConfig(ModelConfig):
    """Sizes of the model."""

    n_tokens: int = from_data(2)
    size: int = option(4, "of the state")
    length: int = option(8, "tokens per segment")


@dataclasses.dataclass(frozen=True)
class ToyTrainConfig(TrainConfig):
    """Training, with an option that other models have no use for."""

    momentum: float = option(0.0, "of the gradient")


class Toy(nnx.Module):
    """h' = tanh(W h + E[x]); the next token by h'."""

    def __init__(self, config: ToyConfig, deq: Any = None, *, rngs: nnx.Rngs):
        del deq  # there is no solver
        self.embed = nnx.Embed(config.n_tokens, config.size, rngs=rngs)
        self.recur = nnx.Param(jnp.eye(config.size))
        self.out = nnx.Linear(config.size, config.n_tokens, rngs=rngs)
        self.memory = Carry(jnp.zeros((1, config.size)))

    def nll(self, batch) -> jax.Array:
        """(B, L); remembers the last state."""
        forget(self, batch["fresh"])
        recur = self.recur[...]

        def step(h, x):
            h = jnp.tanh(h @ recur + x)
            return h, h

        x = jnp.swapaxes(self.embed(batch["x"]), 0, 1)
        h, states = jax.lax.scan(step, self.memory[...], x)
        self.memory.set_value(jax.lax.stop_gradient(h))
        logits = self.out(jnp.swapaxes(states, 0, 1))
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"])


class ToyTask(PredictingTask):
    """See `zoo.task`."""

    name = "toy"
    summary = "recurrent language model"
    figures = PERPLEXITY
    module = Toy
    presets = {
        "quick": Preset(
            summary="",
            model=ToyConfig(),
            deq=jdeq.DEQConfig(),
            train=ToyTrainConfig(
                steps=20,
                batch_size=4,
                eval_batch_size=3,
                lr=0.5,
                clip=0.25,
                log_every=5,
                eval_every=10,
                save_every=10,
            ),
            data="characters",
        )
    }

    def load_data(self, source, folder, *, model, meta):
        vocabulary = Vocabulary.from_dict(meta["vocabulary"]) if meta else None
        corpus = load_corpus(source, folder, vocabulary)
        data = corpus.data(length=model.length, eval_length=2 * model.length)
        return dataclasses.replace(data, sizes={"n_tokens": len(corpus.vocabulary)})

    def loss(self, model, batch, key):
        loss = model.nll(batch).mean()
        return loss, {"nll": loss, "residual": jnp.zeros(()), "nfe": jnp.zeros(())}

    def evaluate(self, model, batch):
        return self.outputs(model.nll(batch))

    def outputs(self, nll):
        """What `evaluate` returns of a model without a solver."""
        rows = jnp.zeros(len(nll))
        return {
            "nll": nll,
            "loss": nll,
            "residual": rows,
            "converged": rows + 1,
            "trace": rows[:, None],
            "nfe": jnp.zeros(()),
        }

    def optimizer(self, train: Any):
        return optax.sgd(learning_rate(train, lambda _: train.lr), train.momentum)

    def inference(self, model):
        def predict(x):
            memory = jnp.zeros((x.shape[0], model.embed.features))
            states = [memory := jnp.tanh(memory @ model.recur[...] + e) for e in model.embed(x.T)]
            return model.out(jnp.stack(states, 1)), jnp.zeros(x.shape[0])

        return predict, (jnp.zeros((1, 8), jnp.int32),)


TASK = ToyTask()

if __name__ == "__main__":
    register_task(TASK)
    sys.exit(main())
