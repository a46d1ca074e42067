"""The training of all models: one compiled step, and the state it moves."""

import pathlib
from typing import Literal

import jax
import numpy as np
from flax import nnx

from zoo.carry import fresh_carry
from zoo.checkpoint import Checkpoint, find_checkpoint
from zoo.evaluation import Evaluation, Evaluator
from zoo.fit import Fit, Watch
from zoo.run import RunConfig
from zoo.step import TrainState, training_step
from zoo.task import Batch, Data, Split, Task


class Trainer:
    """One run of one task.

    The inner step is a single `jax.jit` over split state: everything static is in the graphdef,
    the arrays are donated. Batches and keys depend on the seed and the step alone, so a run
    that continues from a checkpoint makes the very same steps as one that never stopped.
    """

    def __init__(self, task: Task, config: RunConfig, data: Data):
        self.task, self.config, self.data = task, config, data
        data.train.check_batch_size(config.train.batch_size)  # before anything takes time
        optimizer = task.optimizer(config.train)

        @nnx.jit
        def create(key: jax.Array) -> nnx.Module:
            return task.build(config.model, config.deq, rngs=nnx.Rngs(key))

        model = create(jax.random.key(config.seed))
        model.train()
        graphdef, params, rest = nnx.split(model, nnx.Param, ...)
        rest = fresh_carry(rest, config.train.batch_size)
        self.state = TrainState(params, rest, jax.jit(optimizer.init)(params))
        self.step = 0
        self._evaluator = Evaluator(task, model)
        self._key = jax.random.fold_in(jax.random.key(config.seed), 1)

        step = training_step(task, optimizer, graphdef)
        self._update = jax.jit(step, donate_argnums=0)

    def update(self, batch: Batch) -> dict[str, jax.Array]:
        """Makes the next step and returns its metrics."""
        self.state, metrics = self._update(self.state, np.int32(self.step), self._key, batch)
        self.step += 1
        return metrics

    def compiled_step(self, batch: Batch) -> jax.stages.Compiled:
        """The program of one step, for those who want to know what it needs."""
        return self._update.lower(self.state, np.int32(self.step), self._key, batch).compile()

    def restore(self, saved: Checkpoint | pathlib.Path) -> None:
        """Continues from a checkpoint, or from the newest one of an output folder.

        Raises:
            UserError: there is none, or it is one of a run with other settings.
        """
        checkpoint = saved if isinstance(saved, Checkpoint) else find_checkpoint(saved)
        self.config.check_resumes(RunConfig.from_dict(checkpoint.config))
        self.state = checkpoint.restore(self.state)
        self.step = checkpoint.step

    def fit(
        self, out: pathlib.Path, *, stop_after: int | None = None, watch: Watch | None = None
    ) -> Evaluation:
        """Trains to the end, writing figures, checkpoints and plot below `out`.

        Args:
            out: output folder.
            stop_after: leave off after this step; a resumed run goes on as if it had not.
            watch: what is written besides.

        Returns:
            The evaluation on the test split at the last step.

        Raises:
            Diverged: the loss or its gradient is not finite any more.
            Interrupted: a signal asked to stop; the state is saved.
            UserError: a checkpoint cannot be written, or `watch` asks for what is not to be had.
        """
        return Fit(self, out, watch or Watch()).run(stop_after)

    def evaluate(self, split: Literal["valid", "test"] = "test") -> Evaluation:
        """The test split, or the validation split if there is one, with the current parameters."""
        return self.evaluate_on(self.split(split))

    def evaluate_on(self, data: Split) -> Evaluation:
        """Any split with the current parameters."""
        size = self.config.train.eval_batch_size
        return self._evaluator(self.state.params, self.state.rest, data, size)

    def split(self, name: Literal["valid", "test"]) -> Split:
        """A split of the data by name."""
        return getattr(self.data, name)
