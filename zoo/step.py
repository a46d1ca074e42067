"""One training step of all models."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax
from flax import nnx

from zoo.skipping import NONE, Skips, accepted
from zoo.task import Task


class TrainState(NamedTuple):
    """All arrays of a run: what a checkpoint holds."""

    params: Any  # nnx.State of the parameters, and of all other variables
    rest: Any
    opt_state: optax.OptState
    skips: Skips = NONE


Step = Callable[[TrainState, Any, jax.Array, Any], tuple[TrainState, dict[str, jax.Array]]]


def training_step(
    task: Task, optimizer: optax.GradientTransformation, graphdef: nnx.GraphDef
) -> Step:
    """The function `(state, step, key, batch) -> state, metrics`, pure and not yet compiled."""

    def update(state: TrainState, step: jax.Array, key: jax.Array, batch: Mapping[str, jax.Array]):
        def loss_fn(params: nnx.State):
            # a copy, because variables of an outer trace cannot be written to
            model = nnx.merge(graphdef, params, state.rest, copy=True)
            loss, metrics = task.loss(model, batch, jax.random.fold_in(key, step))
            return loss, (nnx.state(model, nnx.Not(nnx.Param)), metrics)

        gradient = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, (rest, metrics)), grads = gradient(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        made = TrainState(params, rest, opt_state, state.skips)
        norm = optax.tree.norm(grads)
        return accepted(made, state, loss, norm), {"loss": loss, "grad_norm": norm} | metrics

    return update
