"""The compiled functions of a run: one makes its state, one makes a step."""

from collections.abc import Collection, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from zoo.devices.layout import Layout
from zoo.optimizer import make_optimizer
from zoo.run import RunConfig
from zoo.state import TrainState, initial_state
from zoo.task import Task
from zoo.training.step import training_step


class Program:
    """A run's functions over its layout; nothing is computed or compiled before they are called.

    Args:
        task: the model.
        config: everything that defines the run.
        layout: where its arrays live.
        shared: entries of a batch without rows.

    Raises:
        UserError: nothing of the model can be split over the layout's mesh.
        ValueError: the task trains nothing.

    Attributes:
        model: the model without its arrays.
        shapes: shape and dtype of each array of the state.
        placed: a sharding for each of them.
        update: `(state, step, key, batch) -> state, metrics`; the old state is given up.
    """

    def __init__(self, task: Task, config: RunConfig, layout: Layout, shared: Collection[str] = ()):
        optimizer = make_optimizer(task, config.train)

        def build(key: jax.Array) -> nnx.Module:
            model = task.build(config.model, config.deq, rngs=nnx.Rngs(key))
            model.train()
            return model

        def create(bits: jax.Array) -> tuple[TrainState, jax.Array]:
            key = jax.random.wrap_key_data(bits)
            _, params, rest = nnx.split(build(key), task.trained, ...)
            return initial_state(params, rest, optimizer, config.train), jax.random.fold_in(key, 1)

        # bits, as the other processes have them too: an array would belong to this one
        self._bits = np.asarray(jax.random.key_data(jax.random.key(config.seed)))
        self.shapes, self._key = jax.eval_shape(create, self._bits)
        if not jax.tree.leaves(self.shapes.params):
            raise ValueError(f"model {task.name!r} has no variable that its `trained` is for")
        self.model = nnx.eval_shape(lambda: build(jax.random.key(0)))
        layout.check_model(self.model)
        self.placed = layout.state(self.shapes, optimizer)
        self._create = jax.jit(create, out_shardings=(self.placed, layout.replicated))
        graphdef = nnx.graphdef(self.model)
        step = training_step(task, config.train, optimizer, graphdef, layout, shared)
        out = (self.placed, layout.replicated)
        self.update = jax.jit(step, donate_argnums=0, out_shardings=out)
        self._layout, self._shared = layout, shared

    def create(self) -> tuple[TrainState, jax.Array]:
        """The state before the first step, and the key of the steps' random numbers."""
        return self._create(self._bits)

    def compiled_step(self, batch: Mapping[str, Any]) -> jax.stages.Compiled:
        """The program of a step for whole batches of these shapes; it makes no arrays."""
        state = jax.tree.map(_placed, self.shapes, self.placed)
        key = _placed(self._key, self._layout.replicated)
        shapes = self._layout.batch_shapes(batch, self._shared)
        return self.update.lower(state, np.int32(0), key, shapes).compile()


def _placed(a: Any, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(a), a.dtype, sharding=sharding)
