"""What `benchmarks.language_model` measures of one trained run."""

import argparse
import dataclasses
import pathlib
import statistics
import time
from typing import Any

import jax
from flax import nnx

from zoo.checkpoints.checkpoint import Checkpoint
from zoo.checkpoints.saved import restored_model, sized
from zoo.data.split import Data
from zoo.data.vocabulary import Vocabulary
from zoo.lm.sampler import Continuation, Draw, Sampler
from zoo.registry import get_task
from zoo.run import RunConfig
from zoo.training.evaluation import Evaluation, Evaluator
from zoo.training.trainer import Trainer

from .stability import machine as machine

TASK = get_task("lm")
TIMED_STEPS = 15


@dataclasses.dataclass(frozen=True)
class Run:
    """A run, its checkpoint, where it and its text are, and the steps made before it."""

    config: RunConfig
    checkpoint: Checkpoint
    out: pathlib.Path
    folder: pathlib.Path | None
    before: int

    @property
    def step_tokens(self) -> int:
        """Tokens of a training step."""
        return self.config.train.batch_size * self.config.model.tgt_len

    def data(self) -> Data:
        """The data it was trained on."""
        meta = self.checkpoint.meta
        return TASK.load_data(self.config.data, self.folder, model=self.config.model, meta=meta)

    def changed(self, deq: dict[str, Any], **model: Any) -> "Run":
        """The same weights with other DEQ options and sizes."""
        config = dataclasses.replace(
            self.config,
            deq=dataclasses.replace(self.config.deq, **deq),
            model=dataclasses.replace(self.config.model, **model),
        )
        return dataclasses.replace(self, config=config)


def count(run: Run) -> int:
    """Parameters."""
    model = restored_model(TASK, run.config, run.checkpoint)
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def seconds_per_step(run: Run) -> float:
    """Median CPU time of a training step with the trained weights."""
    data = run.data()
    trainer = Trainer(TASK, run.config, data)
    trainer.restore(run.checkpoint)
    train, times = run.config.train, []
    batches = data.train.train_batches(
        train.batch_size, seed=run.config.seed, start=0, stop=TIMED_STEPS
    )
    for batch in batches:
        started = time.process_time()
        jax.block_until_ready(trainer.update(batch))
        times.append(time.process_time() - started)
    return statistics.median(times[2:])


def step_memory(options: str, folder: pathlib.Path | None) -> int:
    """Bytes of temporaries of the compiled training step for these command-line options."""
    config = _configured(options)
    data = TASK.load_data(config.data, folder, model=config.model, meta={})
    config = dataclasses.replace(config, model=sized(config.model, data))
    trainer = Trainer(TASK, config, data)
    size = config.train.batch_size
    batch = next(iter(data.train.train_batches(size, seed=0, start=0, stop=1)))
    memory = trainer.compiled_step(batch).memory_analysis()
    assert memory is not None  # every backend here has one
    return memory.temp_size_in_bytes


def evaluated(run: Run) -> Evaluation:
    """The test split."""
    restored = restored_model(TASK, run.config, run.checkpoint)
    _, params, rest = nnx.split(restored, nnx.Param, ...)
    size = run.config.train.eval_batch_size
    return Evaluator(TASK, restored)(params, rest, run.data().test, size)


def sampled(
    run: Run, prompt: str, *, warm: bool, deq: dict[str, Any] | None = None, length: int = 200
) -> tuple[str, Continuation]:
    """A text, prompt included, and what drawing it took."""
    run = run.changed(deq or {})
    model: Any = restored_model(TASK, run.config, run.checkpoint)
    model.eval()
    vocabulary = Vocabulary.from_dict(run.checkpoint.meta["vocabulary"])
    read = vocabulary.encode(prompt).tolist()
    drawn = Sampler(model.lm, Draw(), warm=warm).continued(read, length, seed=0)
    return vocabulary.decode([*read, *drawn.tokens]), drawn


def _configured(options: str) -> RunConfig:
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset")
    name = parser.parse_known_args(options.split())[0].preset
    run = RunConfig.of_preset(TASK, name)
    run.add_options(parser, command="train")
    return run.read_options(parser.parse_args(options.split()), command="train")
