"""Commands for a trained model: `eval` and `sample`."""

import argparse
import pathlib
from collections.abc import Callable, Sequence

from flax import nnx

from jdeq.command_line import add_options, read_options
from zoo.checkpoints.checkpoint import Checkpoint, find_checkpoint
from zoo.checkpoints.saved import restored_model, saved_run, sized
from zoo.commands.arguments import (
    add_checkpoint_options,
    add_data_option,
    first_pass,
    parser_of,
    valid,
    wants_help,
)
from zoo.devices.compile_cache import add_cache_option, use_cache
from zoo.devices.distributed import add_process_options, is_first, join_processes
from zoo.devices.layout import Layout
from zoo.devices.mesh import Devices
from zoo.errors import UserError
from zoo.run import RunConfig
from zoo.task import SamplingTask, Task
from zoo.training.evaluation import Evaluator


def evaluate(argv: Sequence[str]) -> int:
    """Evaluates a checkpoint on the test data; the exit status."""
    join_processes(argv)
    task, checkpoint, config, args = _checkpoint_and_changes("eval", argv, _add_eval_options)
    data = task.load_data(config.data, args.data, model=config.model, meta=checkpoint.meta)
    if sized(config.model, data) != config.model:  # weights without a vocabulary of their own
        raise UserError(
            f"{args.checkpoint}: the model is not one for these data, with {data.sizes}"
        )
    layout = Layout(valid(lambda: read_options(args, Devices(), command="eval")))
    model = restored_model(task, config, checkpoint, layout.replicated)
    _, params, rest = nnx.split(model, task.trained, ...)
    unrolled = task.unrolled(config.model, config.deq)
    evaluate_split = Evaluator(task, model, layout, unrolled=unrolled)
    evaluation = evaluate_split(params, rest, data.test, config.train.eval_batch_size)
    if is_first():
        print(evaluation.line("test", task.figures))
    return 0


def sample(argv: Sequence[str]) -> int:
    """Draws from a trained model; the exit status."""
    task, checkpoint, config, args = _checkpoint_and_changes("sample", argv, _add_sample_options)
    assert isinstance(task, SamplingTask)
    sampling = valid(lambda: read_options(args, task.sampling))
    meta = checkpoint.meta
    if not meta and args.data is not None:
        data = task.load_data(config.data, args.data, model=config.model, meta={})
        sized(config.model, data)
        meta = data.meta
    model = restored_model(task, config, checkpoint)
    model.eval()
    print(task.sample(model, meta, sampling))
    return 0


def _checkpoint_and_changes(
    command: str,
    argv: Sequence[str],
    add_own_options: Callable[[Task, argparse.ArgumentParser], None] = lambda task, parser: None,
) -> tuple[Task, Checkpoint, RunConfig, argparse.Namespace]:
    """What is behind `--checkpoint`; the run with what may still be changed after training."""
    task, first = first_pass(command, argv, ("--checkpoint",), ("--best",))
    checkpoint = None
    if first.checkpoint:
        checkpoint = find_checkpoint(pathlib.Path(first.checkpoint), best=first.best)
        defaults = saved_run(task, checkpoint)
    elif wants_help(argv):
        defaults = RunConfig.of_preset(task)
    else:
        raise UserError("--checkpoint DIR is required")
    parser = parser_of(command, task)
    run = parser.add_argument_group("run")
    add_checkpoint_options(run)
    add_data_option(run)
    add_cache_option(run)
    add_own_options(task, parser)
    add_options(parser, Devices(), "devices", command=command)
    defaults.add_options(parser, command=command)
    args = parser.parse_args(argv[1:])
    config = defaults.read_options(args, command=command)
    use_cache(args.compile_cache)
    assert checkpoint is not None  # without one, the help has ended the program
    return task, checkpoint, config, args


def _add_eval_options(task: Task, parser: argparse.ArgumentParser) -> None:
    add_process_options(parser)


def _add_sample_options(task: Task, parser: argparse.ArgumentParser) -> None:
    if not isinstance(task, SamplingTask):
        raise UserError(f"there is nothing to sample from model {task.name!r}")
    add_options(parser, task.sampling, "sample")
