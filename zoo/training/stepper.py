"""The training of all models: one compiled step, and the state it moves."""

import pathlib
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from zoo.checkpoints.checkpoint import Checkpoint, find_checkpoint
from zoo.checkpoints.names import described, difference, named
from zoo.checkpoints.saved import restored_model, saved_run
from zoo.data.split import Batch, Data, Split
from zoo.devices.layout import Layout
from zoo.devices.mesh import Devices
from zoo.errors import UserError
from zoo.figures import Evaluation
from zoo.precision import check_tolerances
from zoo.run import RunConfig
from zoo.task import Task
from zoo.training.evaluation import Evaluator
from zoo.training.program import Program


class Stepper:
    """One run of one task.

    The inner step is a single `jax.jit` over split state: everything static is in the graphdef,
    the arrays are donated. Batches and keys depend on the seed and the step alone, so a run
    that continues from a checkpoint makes the very same steps as one that never stopped. On a
    mesh these are arrays over all devices, which `zoo.devices.layout` places; the step is the same.

    Args:
        task: the model.
        config: everything that defines the run.
        data: what to train and to evaluate on.
        devices: which devices to use, and how; one by default.

    Raises:
        UserError: data, precision, batches or devices do not go together.
    """

    def __init__(self, task: Task, config: RunConfig, data: Data, devices: Devices | None = None):
        self.task, self.config, self.data = task, config, data
        train = config.train
        data.train.check_batch_size(train.rows)  # before anything takes time
        check_tolerances(train, config.deq)
        self.layout = Layout(devices)
        self.layout.check_batch_size(train.batch_size)
        self._program = Program(task, config, self.layout, data.train.shared)
        self.state, self._key = self._program.create()
        self.step = 0
        self.unrolled = task.unrolled(config.model, config.deq)
        self._evaluator = Evaluator(task, self._program.model, self.layout, unrolled=self.unrolled)

    def update(self, batch: Batch) -> dict[str, jax.Array]:
        """Makes the next step with this process's rows of a batch, and returns its metrics."""
        rows, shared = self.config.train.rows, self.data.train.shared
        whole = self.layout.batch(batch, rows, shared)
        step = np.int32(self.step)
        self.state, metrics = self._program.update(self.state, step, self._key, whole)
        self.step += 1
        if self.layout.waits:
            jax.block_until_ready(metrics)
        return metrics

    def compiled_step(self, batch: Batch) -> jax.stages.Compiled:
        """The program of one step, for those who want to know what it needs."""
        return self._program.compiled_step(batch)

    def restore(self, saved: Checkpoint | pathlib.Path) -> None:
        """Continues from a checkpoint, or from the newest one of an output folder.

        Raises:
            UserError: there is none, or it is one of a run with other settings.
        """
        checkpoint = saved if isinstance(saved, Checkpoint) else find_checkpoint(saved)
        self.config.check_resumes(RunConfig.from_dict(checkpoint.config))
        self.state = checkpoint.restore(self.state)
        self.step = checkpoint.step

    def start_from(self, checkpoint: Checkpoint) -> None:
        """Begins with the parameters of another run, averaged if they were there, and frozen ones.

        Only sizes must agree. So an equilibrium model may begin as an ordinary network, whose
        blocks were applied once.

        Raises:
            UserError: it is one of another model, or of other sizes.
        """
        model = restored_model(self.task, saved_run(self.task, checkpoint), checkpoint)
        wanted = nnx.Any(self.task.trained, nnx.Param)
        shapes = lambda state: {name: described(a) for name, a in named(state).items()}
        mine, theirs = nnx.state(self._program.model, wanted), nnx.state(model, wanted)
        unlike = difference(shapes(theirs), shapes(mine))
        if unlike is not None:
            raise UserError(f"{checkpoint.path}: has not this model's parameters: {unlike}")
        params, frozen = nnx.state(model, self.task.trained, wanted)
        copy = lambda state, where: jax.tree.map(jnp.copy, jax.device_put(state, where))
        placed, averaged = self._program.placed, self.state.ema is not None
        rest = nnx.merge_state(self.state.rest, copy(frozen, self.layout.params(frozen)))
        ema = copy(params, placed.ema) if averaged else None
        self.state = self.state._replace(params=copy(params, placed.params), rest=rest, ema=ema)

    def evaluate(self, split: Literal["valid", "test"] = "test") -> Evaluation:
        """The test split, or the validation split if there is one, with the current parameters."""
        return self.evaluate_on(self.split(split))

    def evaluate_on(self, data: Split) -> Evaluation:
        """Any split with the current parameters."""
        size = self.config.train.eval_batch_size
        return self._evaluator(self.state.averaged, self.state.rest, data, size)

    def split(self, name: Literal["valid", "test"]) -> Split:
        """A split of the data by name."""
        return getattr(self.data, name)
