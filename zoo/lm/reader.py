"""A language model together with its memory of the segments before."""

from collections.abc import Mapping

from flax import nnx
from jax import Array

import jdeq
from zoo.lm.config import LMConfig
from zoo.lm.memory import Memory
from zoo.lm.model import LanguageModel, nll, training_loss
from zoo.nn.carry import Carry, forget

Batch = Mapping[str, Array]  # x, y (B, L) tokens and what follows them; fresh () bool


class Reader(nnx.Module):
    """Reads text segment by segment; what it remembers is carried from batch to batch.

    Training and evaluation remember `mem_len` and `eval_mem_len` positions: going from one to
    the other empties the memory.

    Args:
        config, deq, rngs: as of `LanguageModel`.
    """

    def __init__(self, config: LMConfig, deq: jdeq.DEQConfig, *, rngs: nnx.Rngs):
        self.lm = LanguageModel(config, deq, rngs=rngs)
        self.memory = Carry(Memory.empty(config, 1, config.mem_len))

    def train(self, **attributes) -> None:
        """Training mode, with room for `mem_len` positions."""
        super().train(**attributes)
        self._empty(self.lm.config.mem_len)

    def eval(self, **attributes) -> None:
        """Evaluation mode, with room for `eval_mem_len` positions."""
        super().eval(**attributes)
        self._empty(self.lm.config.eval_mem_len)

    def nll(self, batch: Batch) -> tuple[Array, jdeq.SolverInfo]:
        """Negative log probability (B, L) of each next token, and how the solve went."""
        forget(self, batch["fresh"])
        values, info, memory = nll(self.lm, batch["x"], batch["y"], self.memory.get_value())
        self.memory.set_value(memory)
        return values, info

    def training_loss(self, batch: Batch, key: Array) -> tuple[Array, Array, jdeq.SolverInfo]:
        """The loss (), and what `nll` returns."""
        forget(self, batch["fresh"])
        remembered = self.memory.get_value()
        loss, (values, info, memory) = training_loss(
            self.lm, batch["x"], batch["y"], remembered, key=key
        )
        self.memory.set_value(memory)
        return loss, values, info

    def _empty(self, length: int) -> None:
        self.memory.set_value(Memory.empty(self.lm.config, 1, length))
