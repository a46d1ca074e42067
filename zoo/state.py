"""All arrays of a run."""

from typing import Any, NamedTuple

import numpy as np
import optax
from flax import nnx

from zoo.nn.carry import fresh_carry
from zoo.settings import TrainConfig


class Skips(NamedTuple):
    """How many steps were left out, () int32: in all, and since the last one that was not."""

    total: Any
    in_a_row: Any


NONE = Skips(np.int32(0), np.int32(0))


class TrainState(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        params: `nnx.State` of what is trained, in float32.
        rest: `nnx.State` of all other variables, frozen parameters too.
        opt_state: of the optimiser.
        ema: moving average of the parameters, if there is one.
        skips: steps that were left out.
    """

    params: Any
    rest: Any
    opt_state: optax.OptState
    ema: Any = None
    skips: Skips = NONE

    @property
    def averaged(self) -> Any:
        """The parameters to evaluate and to keep: their moving average, if there is one."""
        return self.params if self.ema is None else self.ema


def initial_state(
    params: nnx.State,
    rest: nnx.State,
    optimizer: optax.GradientTransformation,
    train: TrainConfig,
) -> TrainState:
    """The state before the first step, of a model's parameters and other variables."""
    ema = params if train.ema else None
    return TrainState(params, fresh_carry(rest, train.rows), optimizer.init(params), ema)
