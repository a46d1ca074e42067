"""One training step of all models."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import optax
from flax import nnx

from zoo.devices.layout import Layout
from zoo.nn.carry import Carry
from zoo.precision import cast, cast_like, wide
from zoo.settings import TrainConfig
from zoo.state import TrainState
from zoo.task import Task
from zoo.training.accumulation import Gradient, accumulated
from zoo.training.skipping import accepted

Step = Callable[[TrainState, Any, jax.Array, Any], tuple[TrainState, dict[str, jax.Array]]]


def training_step(
    task: Task,
    train: TrainConfig,
    optimizer: optax.GradientTransformation,
    graphdef: nnx.GraphDef,
    layout: Layout,
    shared: Collection[str],
) -> Step:
    """The function `(state, step, key, batch) -> state, metrics`, pure and not yet compiled.

    Parameters that FSDP has split are put together once, in the dtype of the computation, before
    the solve: an equilibrium model uses the same ones in every iteration.
    """
    written = nnx.Not(nnx.Any(task.trained, nnx.Param))  # by the model itself

    def gradient(params: Any, rest: Any, key: jax.Array, batch: Mapping[str, jax.Array]):
        trained, frozen = params
        carried, others = nnx.split_state(rest, Carry, ...)
        inputs = nnx.merge_state(frozen, others, cast(carried, train))
        low = {name: cast(batch[name], train) for name in task.low_precision}

        def loss_fn(trained: nnx.State):
            # a copy, because variables of an outer trace cannot be written to
            model = nnx.merge(graphdef, trained, inputs, copy=True)
            loss, metrics = task.loss(model, {**batch, **low}, key)
            return loss, (nnx.state(model, written), metrics)

        gradient = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, (new, metrics)), grads = gradient(trained)
        grads = jax.tree.map(wide, grads)  # before they are summed
        return Gradient(grads, cast_like(new, rest), {"loss": loss} | metrics)

    mean = accumulated(gradient, train.accumulate, shared)

    def update(state: TrainState, step: jax.Array, key: jax.Array, batch: Mapping[str, jax.Array]):
        frozen, rest = nnx.split_state(state.rest, nnx.Param, ...)
        params = tuple(layout.gathered(cast(part, train)) for part in (state.params, frozen))
        grads, rest, metrics = mean(params, rest, jax.random.fold_in(key, step), batch)
        # whole first: else the compiler would split the backward pass, and the solve, like them
        grads = layout.gathered(grads)
        grads = jax.lax.with_sharding_constraint(grads, layout.params(state.params))
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema is not None:
            ema = optax.incremental_update(params, ema, 1 - train.ema)
        rest = nnx.merge_state(frozen, rest)
        made = TrainState(params, rest, opt_state, ema, state.skips)
        norm = optax.tree.norm(grads)
        return accepted(made, state, metrics["loss"], norm), {"grad_norm": norm} | metrics

    return update
