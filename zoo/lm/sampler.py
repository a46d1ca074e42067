"""Continues a text, token by token, with a trained language model."""

import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jdeq.options import Options, option
from zoo.lm.memory import Memory
from zoo.lm.model import LanguageModel


@dataclasses.dataclass(frozen=True)
class Draw(Options, what="sampling option"):
    """How the next token is chosen."""

    temperature: float = option(
        1.0,
        "divides the log probabilities; 0: the likeliest token",
        low=0,
        below=math.inf,
    )
    top_k: int = option(0, "draw from the so many likeliest tokens; 0: from all", low=0)

    def __call__(self, log_probs: Array, key: Array) -> Array:
        """Log probabilities (n_token,) -> a token ()."""
        if self.temperature == 0:
            return jnp.argmax(log_probs)
        if not self.top_k:
            return jax.random.categorical(key, log_probs / self.temperature)
        likeliest, tokens = jax.lax.top_k(log_probs, self.top_k)
        return tokens[jax.random.categorical(key, likeliest / self.temperature)]


@dataclasses.dataclass(frozen=True)
class Sampling(Draw):
    """Which text is continued, how far and how."""

    prompt: str = option("\n", "text to continue, a new line if it is not given")
    length: int = option(200, "tokens to draw", low=1)
    seed: int = option(0, "of the draws", low=0)
    cold: bool = option(
        False, "start every solve from zero, not from the fixed point of the token before"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.prompt:
            raise ValueError("prompt must not be empty")


class Position(NamedTuple):
    """Where a text has got to: what is remembered, and the last state (1, 1, D)."""

    memory: Memory
    z: Array


class Step(NamedTuple):
    """What reading one token gives: the token after it, and evaluations of f that it took."""

    token: Array
    nfe: Array


@dataclasses.dataclass
class Continuation:
    """Tokens that were drawn, and what that took.

    Attributes:
        tokens: in order.
        seconds: for all tokens but the first, which comes with the prompt and the compilation.
        nfe: evaluations of f for each of the tokens after the first.
    """

    tokens: list[int] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    nfe: list[int] = dataclasses.field(default_factory=list)

    @property
    def tokens_per_second(self) -> float:
        """How fast it went; NaN for less than two tokens."""
        return len(self.nfe) / self.seconds if self.nfe else float("nan")


class Sampler:
    """Reads and draws single tokens; one compilation serves all of them.

    Args:
        model: in evaluation mode. Its kernels are normalised once, here.
        draw: chooses the next token.
        warm: start each solve from the state of the token before instead of from zero. The
            equilibrium is the same, and nearer. An explicit transformer has none: its blocks are
            applied to zero in any case.
    """

    def __init__(self, model: LanguageModel, draw: Draw, *, warm: bool = True):
        config = model.config
        warm = warm and not config.explicit
        graphdef, self._state = nnx.split(model.folded())
        empty = Memory.empty(config, 1, config.eval_mem_len)
        self._start = Position(empty, jnp.zeros((1, 1, config.d_model)))

        def step(state, position: Position, token: Array, key: Array) -> tuple[Position, Step]:
            model = nnx.merge(graphdef, state)
            context = model.encode(token.reshape(1, 1), position.memory)
            z, info = model.equilibrium(context, position.z if warm else None)
            log_probs = model.vocabulary.log_probs(model.decode(z))[0, 0]
            after = Position(position.memory.extended(z, context.u), z)
            return after, Step(draw(log_probs, key), info.nfe)

        self._step = jax.jit(step, donate_argnums=1)

    def steps(self, prompt: Sequence[int], key: Array) -> Iterator[Step]:
        """Draws after `prompt`, without end."""
        position = jax.tree.map(jnp.copy, self._start)
        step = None
        for token in prompt:
            position, step = self._step(self._state, position, jnp.int32(token), key)
        if step is None:
            raise ValueError("an empty prompt cannot be continued")
        while True:
            yield step
            key, sub = jax.random.split(key)
            position, step = self._step(self._state, position, step.token, sub)

    def continued(self, prompt: Sequence[int], length: int, *, seed: int) -> Continuation:
        """The first `length` tokens after `prompt`; the same seed gives the same tokens."""
        result = Continuation()
        started = 0.0
        for number, step in enumerate(self.steps(prompt, jax.random.key(seed))):
            if number == length:
                break
            result.tokens.append(int(step.token))
            if number == 0:
                started = time.perf_counter()
            else:
                result.nfe.append(int(step.nfe))
        result.seconds = time.perf_counter() - started
        return result
