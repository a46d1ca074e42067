"""One training step of all models."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from flax import nnx

from zoo.devices.layout import Layout
from zoo.nn.carry import Carry
from zoo.precision import cast, cast_like, wide
from zoo.settings import TrainConfig
from zoo.task import Task
from zoo.training.accumulation import Gradient, accumulated
from zoo.training.skipping import accepted
from zoo.training.state import TrainState

Step = Callable[[TrainState, Any, jax.Array, Any], tuple[TrainState, dict[str, jax.Array]]]


def training_step(
    task: Task,
    train: TrainConfig,
    optimizer: optax.GradientTransformation,
    graphdef: nnx.GraphDef,
    layout: Layout,
) -> Step:
    """The function `(state, step, key, batch) -> state, metrics`, pure and not yet compiled.

    Parameters that FSDP has split are put together once, in the dtype of the computation, before
    the solve: an equilibrium model uses the same ones in every iteration.
    """

    def gradient(params: Any, rest: Any, key: jax.Array, batch: Mapping[str, jax.Array]):
        carried, others = nnx.split_state(rest, Carry, ...)

        def loss_fn(params: nnx.State):
            # a copy, because variables of an outer trace cannot be written to
            inputs = nnx.merge_state(others, cast(carried, train))
            model = nnx.merge(graphdef, params, inputs, copy=True)
            loss, metrics = task.loss(model, cast(batch, train), key)
            return loss, (nnx.state(model, nnx.Not(nnx.Param)), metrics)

        gradient = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, (new, metrics)), grads = gradient(params)
        grads = jax.tree.map(wide, grads)  # before they are summed
        return Gradient(grads, cast_like(new, rest), {"loss": loss} | metrics)

    def update(state: TrainState, step: jax.Array, key: jax.Array, batch: Mapping[str, jax.Array]):
        whole, split = (layout.params(state.params, whole=w) for w in (True, False))
        params = jax.lax.with_sharding_constraint(cast(state.params, train), whole)
        mean = accumulated(gradient, train.accumulate)
        grads, rest, metrics = mean(params, state.rest, jax.random.fold_in(key, step), batch)
        # whole first: else the compiler would split the backward pass, and the solve, like them
        grads = jax.lax.with_sharding_constraint(grads, whole)
        grads = jax.lax.with_sharding_constraint(grads, split)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema is not None:
            ema = optax.incremental_update(params, ema, 1 - train.ema)
        made = TrainState(params, rest, opt_state, ema, state.skips)
        norm = optax.tree.norm(grads)
        return accepted(made, state, metrics["loss"], norm), {"grad_norm": norm} | metrics

    return update
