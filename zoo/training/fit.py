"""A trainer's run to the end: when to log, evaluate and save, and how to stop early."""

import collections
import dataclasses
import importlib.util
import pathlib
import time
from typing import Literal

import jax

from jdeq.options import Options, option
from zoo.checkpoints.saving import Saver
from zoo.data.split import parted
from zoo.devices.distributed import is_first
from zoo.errors import UserError
from zoo.figures import Evaluation, judging
from zoo.folder import RunFolder
from zoo.logs.header import header
from zoo.logs.journal import Journal
from zoo.logs.metrics import read_metrics
from zoo.logs.plots import SolveTrace, plot_runs
from zoo.program_name import program_name
from zoo.task import PicturingTask, SolvingTask, Task
from zoo.training.interrupt import Interrupted, StopSignal, agreed
from zoo.training.profiling import Profiler
from zoo.training.spectrum import SpectralRadius
from zoo.training.stepper import Stepper

Evaluated = Literal["valid", "test"]
IN_FLIGHT = 2  # steps that may be asked for before the device has made them: enough to be busy
SHOWN = 28  # test images in the picture


class Diverged(UserError):
    """Loss or gradient were not finite too many times in a row."""


@dataclasses.dataclass(frozen=True)
class Watch(Options, what="watching option"):
    """What a run writes besides: TensorBoard's files, a profile, the spectral radius."""

    tensorboard: bool = option(False, "also write the figures as TensorBoard's files")
    profile: bool = option(
        False, "trace some steps with jax.profiler, and tell what the host does between them"
    )
    spectral_radius: bool = option(
        False, "measure the Jacobian's spectral radius with every evaluation"
    )

    def check(self, task: Task) -> None:
        """Raises `UserError` if something of it is not to be had."""
        if self.tensorboard and importlib.util.find_spec("tensorboardX") is None:
            raise UserError("--tensorboard needs the package tensorboardX")
        if self.spectral_radius and not isinstance(task, SolvingTask):
            raise UserError(f"--spectral_radius: model {task.name!r} does not tell its equilibrium")


class Fit:
    """The run of one trainer into one output folder."""

    def __init__(self, trainer: Stepper, out: pathlib.Path, watch: Watch):
        train, task = trainer.config.train, trainer.task
        watch.check(task)
        self._trainer, self._folder = trainer, RunFolder(out)
        self._watched: Evaluated = "test" if trainer.data.valid is None else "valid"
        self._radius = None
        if watch.spectral_radius and isinstance(task, SolvingTask):
            self._radius = SpectralRadius(task, trainer.config)
        self._first = is_first()
        self._signal = StopSignal()
        self._profiler = Profiler(self._folder.profile if watch.profile and self._first else None)
        self._saver = Saver(out, keep=train.keep, start=trainer.step)  # may refuse the folder
        if self._first:
            self._folder.write_config(trainer.config.to_dict())
        self._journal = Journal(
            out,
            task.figures,
            start=trainer.step,
            steps=train.steps,
            tensorboard=watch.tensorboard,
            unrolled=trainer.unrolled,
        )

    def run(self, stop_after: int | None) -> Evaluation:
        """See `Trainer.fit`."""
        trainer, train = self._trainer, self._trainer.config.train
        stop = min(train.steps, stop_after or train.steps)
        batches = trainer.data.train.train_batches(
            train.rows,
            seed=trainer.config.seed,
            start=trainer.step,
            stop=stop,
            rows=trainer.layout.my_rows(train.rows),
        )
        evaluation = None
        with self._signal, self._saver, self._journal, self._profiler:
            self._introduce(stop)
            in_flight: collections.deque[dict[str, jax.Array]] = collections.deque()
            for batch in batches:
                begun = time.perf_counter()
                with self._profiler.step() as made:
                    metrics = trainer.update(batch)
                    made.append(metrics)
                compile_time = None
                if not in_flight:  # the first one: its call has traced and compiled
                    compile_time = time.perf_counter() - begun
                    jax.block_until_ready(metrics)
                in_flight.append(metrics)
                if len(in_flight) > IN_FLIGHT:  # all that was asked for comes before a signal
                    jax.block_until_ready(in_flight.popleft())
                evaluation = self._after_step(metrics, stop, compile_time)
            if evaluation is None or self._watched != "test":
                evaluation = self._evaluation("test", last=True)
            if evaluation is None:
                raise Interrupted(self._how_to_go_on())
            if (line := self._profiler.line()) is not None:
                self._journal.say(line)
        if self._first:
            self._draw(evaluation)
            for line in self._written():
                print(line)
            print(evaluation.line("test", trainer.task.figures), flush=True)
        return evaluation

    def _introduce(self, stop: int) -> None:
        """What is going to be done; the first step is what people wait for longest."""
        trainer = self._trainer
        params, mesh = trainer.state.params, trainer.layout.mesh
        args = (trainer.task, trainer.config, trainer.data, params, mesh, self._folder.out)
        for line in header(*args):
            self._journal.say(line)
        if trainer.step:
            self._journal.say(f"resumed from step {trainer.step}")
        if trainer.step < stop:
            self._journal.say("compiling the step")

    def _draw(self, evaluation: Evaluation) -> None:
        trainer, out = self._trainer, self._folder.out
        solver = SolveTrace(evaluation.trace, *trainer.config.deq.criterion)
        pictures = None
        if isinstance(trainer.task, PicturingTask) and evaluation.predicted is not None:
            batch, _ = next(iter(trainer.data.test.eval_batches(SHOWN)))
            rows, _ = parted(batch, trainer.data.test.shared)
            pictures = trainer.task.pictures(rows, evaluation.predicted[:SHOWN])
        plot_runs(
            self._folder.picture,
            {out.name: read_metrics(out)},
            trainer.task.figures,
            solver if trainer.unrolled is None else None,
            pictures,
        )

    def _written(self) -> list[str]:
        """The paths of what there is now, for people."""
        folder = self._folder
        kept = ", ".join(path.name for path in folder.checkpoint_paths())
        paths = {
            "log": folder.metrics,
            "picture": folder.picture,
            "tensorboard": folder.tensorboard,
            "profile": folder.profile,
        }
        lines = [f"{name:11} {path}" for name, path in paths.items() if path.exists()]
        return [*lines, f"checkpoints {folder.checkpoints} ({kept})"]

    def _after_step(
        self, metrics: dict[str, jax.Array], stop: int, compile_time: float | None
    ) -> Evaluation | None:
        """What is due now; returns the evaluation if one was made."""
        step, train = self._trainer.step, self._trainer.config.train
        due = lambda every: step % every == 0 or step == stop
        self._journal.made(step)
        if due(train.log_every) or step == 1:
            self._log(metrics, compile_time)
        elif compile_time is not None:  # a log is the same however often a run was resumed
            self._journal.compiled(step, compile_time)
        stopping = False
        if due(train.log_every) or jax.process_count() == 1:  # several wait for each other then
            stopping = agreed(self._signal.received is not None)
        evaluation = score = None
        if due(train.eval_every) and not stopping:
            last = step == stop and self._watched == "test"
            evaluation = self._evaluation(self._watched, last=last)
            if evaluation is None:
                stopping = True
            else:
                figures = self._trainer.task.figures
                name = judging(figures)
                score = figures[name].score(evaluation.figures[name])
        if due(train.save_every) or self._saver.best(score) or stopping:
            self._save(score, whatever=stopping or step == stop)
        self._saver.check()
        if stopping:
            raise Interrupted(self._how_to_go_on())
        return evaluation

    def _log(self, metrics: dict[str, jax.Array], compile_time: float | None) -> None:
        step, limit = self._trainer.step, self._trainer.config.train.max_skips
        outputs, skips = jax.device_get((metrics, self._trainer.state.skips))
        self._journal.train(step, outputs | {"skipped": skips.total}, compile_time)
        if skips.in_a_row >= limit:
            self._saver.wait()
            paths = self._folder.checkpoint_paths()
            good = [p for p in paths if int(p.name) <= step - skips.in_a_row]
            raise Diverged(
                f"the loss or its gradient is not finite, {skips.in_a_row} steps in a row up to "
                f"step {step}: try a smaller --lr, or a --norm_type; "
                + (f"the last good checkpoint is {good[-1]}" if good else "no checkpoint is older")
            )

    def _evaluation(self, split: Evaluated, *, last: bool) -> Evaluation | None:
        """Of the parameters as they are now; None if a signal cut it short."""
        trainer = self._trainer
        data = trainer.split(split)
        self._pause()
        with self._journal.pause():
            try:
                evaluation = trainer.evaluate_on(self._signal.stoppable(data))
            except Interrupted:
                return None
            more = {}
            if self._radius is not None:
                batch, _ = next(iter(data.eval_batches(trainer.config.train.eval_batch_size)))
                state = trainer.state
                radius = self._radius(state.averaged, state.rest, batch, data.shared)
                more["spectral_radius"] = radius
        self._journal.evaluated(trainer.step, split, evaluation, last=last, **more)
        return evaluation

    def _save(self, score: float | None, *, whatever: bool) -> None:
        """Saves, unless steps are being left out: then the state before them is there already."""
        trainer = self._trainer
        if not whatever and int(trainer.state.skips.in_a_row):
            return
        self._pause()
        with self._journal.pause():
            self._saver.save(
                trainer.step,
                trainer.state,
                trainer.config.to_dict(),
                trainer.data.meta,
                score=score,
            )

    def _pause(self) -> None:
        """Waits for the steps made so far: their time is theirs, not that of what comes now."""
        jax.block_until_ready(self._trainer.state)
        self._profiler.forget()

    def _how_to_go_on(self) -> str:
        trainer = self._trainer
        return (
            f"stopped after step {trainer.step} of {trainer.config.train.steps}, which is saved; "
            f"`{program_name()} train {trainer.task.name} --out {self._folder.out} --resume` "
            "goes on (with --data and --plugin if the run had them)"
        )
