"""The training loop of all models."""

import pathlib
import sys
from collections.abc import Mapping
from typing import Literal

import jax
import numpy as np
from tqdm import tqdm

from zoo.checkpoint import Checkpoints, open_checkpoints
from zoo.distributed import is_first
from zoo.errors import UserError
from zoo.evaluation import Evaluation, Evaluator
from zoo.layout import Layout
from zoo.mesh import Devices
from zoo.metrics import MetricsLog, read_metrics
from zoo.plots import plot_run
from zoo.precision import check_tolerances
from zoo.program import Program
from zoo.run import RunConfig
from zoo.task import Batch, Data, Task


class Diverged(UserError):
    """The training loss is not finite any more."""


class Trainer:
    """One run of one task.

    The inner step is a single `jax.jit` over split state: everything static is in the graphdef,
    the arrays are donated. Batches and keys depend on the seed and the step alone, so a run
    that continues from a checkpoint makes the very same steps as one that never stopped. On a
    mesh these are arrays over all devices, which `zoo.layout` places; the step is the same.

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
        self.layout = Layout(task, devices)
        self.layout.check_batch_size(train.batch_size)
        self._program = Program(task, config, self.layout)
        self.state, self._key = self._program.create()
        self.step = 0
        self._evaluator = Evaluator(task, self._program.model, self.layout)

    def update(self, batch: Batch) -> dict[str, jax.Array]:
        """Makes the next step with this process's rows of a batch, and returns its metrics."""
        whole = self.layout.batch(batch, self.config.train.rows)
        step = np.int32(self.step)
        self.state, metrics = self._program.update(self.state, step, self._key, whole)
        self.step += 1
        if self.layout.waits:
            jax.block_until_ready(metrics)
        return metrics

    def compiled_step(self, batch: Batch) -> jax.stages.Compiled:
        """The program of one step, for those who want to know what it needs."""
        return self._program.compiled_step(batch)

    def restore(self, out: pathlib.Path) -> None:
        """Continues from the newest checkpoint below `out`; raises `UserError` without one."""
        with open_checkpoints(out) as checkpoints:
            saved = RunConfig.from_dict(checkpoints.restore_config())
            self.config.check_resumes(saved)
            self.state = checkpoints.restore(self.state)
            self.step = checkpoints.latest or 0

    def fit(self, out: pathlib.Path, *, stop_after: int | None = None) -> Evaluation:
        """Trains to the end, writing log, checkpoints and plot below `out`.

        Args:
            out: output folder.
            stop_after: leave off after this step; a resumed run goes on as if it had not.

        Returns:
            The evaluation on the test split at the last step.

        Raises:
            Diverged: the loss is not finite any more.
        """
        train = self.config.train
        stop = min(train.steps, stop_after or train.steps)
        log = MetricsLog(out, resume_at=self.step)
        batches = self.data.train.train_batches(
            train.rows,
            seed=self.config.seed,
            start=self.step,
            stop=stop,
            rows=self.layout.my_rows(train.rows),
        )
        watched = "test" if self.data.valid is None else "valid"
        hidden = None if is_first() else True
        bar = tqdm(total=train.steps, initial=self.step, disable=hidden, file=sys.stderr)
        evaluation = None
        with Checkpoints(out) as checkpoints, bar:
            for batch in batches:
                metrics = self.update(batch)
                bar.update()
                if self.step % train.log_every == 0 or self.step == stop:
                    self._log(log, bar, jax.device_get(metrics))
                evaluation = None
                if self.step % train.eval_every == 0:
                    evaluation = self._evaluated(watched, log, bar)
                if self.step % train.save_every == 0 or self.step == stop:
                    checkpoints.save(self.step, self.state, self.config.to_dict(), self.data.meta)
            if evaluation is None or watched != "test":
                evaluation = self._evaluated("test", log, bar)
        tolerance = (self.config.deq.f_stop_mode, self.config.deq.f_tol)
        if is_first():
            plot_run(
                out / "training.png",
                read_metrics(out),
                self.task.metric,
                evaluation.trace,
                tolerance,
            )
        return evaluation

    def evaluate(self, split: Literal["valid", "test"] = "test") -> Evaluation:
        """The test split, or the validation split if there is one, with the current parameters."""
        data = getattr(self.data, split)
        size = self.config.train.eval_batch_size
        return self._evaluator(self.state.averaged, self.state.rest, data, size)

    def _log(self, log: MetricsLog, bar: tqdm, outputs: Mapping[str, np.ndarray]) -> None:
        metric = self.task.metric
        metrics = {name: float(value) for name, value in outputs.items()}
        metrics[metric.name] = metric.transform(metrics[metric.of])
        log.write(self.step, "train", metrics)
        if not np.isfinite(metrics["loss"]):
            raise Diverged(
                f"the loss is {metrics['loss']} at step {self.step}: "
                "try a smaller --lr, or a --norm_type"
            )
        bar.set_postfix(
            {
                "loss": f"{metrics['loss']:.3f}",
                metric.name: f"{metrics[metric.name]:.3f}",
                "residual": f"{metrics['residual']:.1e}",
                "NFE": int(metrics["nfe"]),
            }
        )

    def _evaluated(self, split: Literal["valid", "test"], log: MetricsLog, bar: tqdm) -> Evaluation:
        evaluation = self.evaluate(split)
        log.write(self.step, split, evaluation.values())
        if is_first():
            bar.write(f"step {self.step}: {evaluation.line(split, self.task.metric)}")
        return evaluation
