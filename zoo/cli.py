"""The command line: `python -m zoo COMMAND MODEL [options]`."""

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
from flax import nnx

import jdeq
from zoo.carry import fresh_carry
from zoo.checkpoint import open_checkpoints
from zoo.conversion import (
    converted_config,
    export_checkpoint,
    import_checkpoint,
    save_arrays,
)
from zoo.errors import UserError
from zoo.evaluation import Evaluator
from zoo.options import add_options, read_options
from zoo.parity import table
from zoo.plugins import add_plugin_option, load_plugin
from zoo.registry import MODELS, get_task
from zoo.run import RunConfig
from zoo.task import Data, Preset, Task
from zoo.trainer import Trainer

T = TypeVar("T")
DEFAULT_OUT = "runs"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the exit status is 0, 1 (parity not reached) or 2 (user's mistake)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="python -m zoo",
        description="Deep equilibrium models: train, evaluate, check against the originals.",
        epilog="`python -m zoo COMMAND MODEL --help` lists the options of a command.",
        allow_abbrev=False,
    )
    commands = "; ".join(f"{name}: {command.__doc__}" for name, command in COMMANDS.items())
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=commands)
    args = parser.parse_args(argv[:1])
    try:
        return COMMANDS[args.command](argv[1:])
    except UserError as e:
        print(f"python -m zoo {args.command}: error: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; --resume continues from the last checkpoint", file=sys.stderr)
        return 130


def train(argv: Sequence[str]) -> int:
    """train a model"""
    task, first = _first_pass("train", argv, ("--preset", "--out"), ("--resume",))
    out = pathlib.Path(first.out or f"{DEFAULT_OUT}/{task.name}")
    if first.resume:
        defaults, seed = _saved_run(task, out), None
        preset = defaults.preset
        if first.preset not in (None, preset):
            raise UserError(f"--resume continues a run of preset {preset!r} in {out}")
    else:
        preset = first.preset or next(iter(task.presets))
        defaults, seed = _preset(task, preset), 0
    parser = _parser("train", task)
    run = parser.add_argument_group("run")
    run.add_argument("--preset", default=preset, help=f"{', '.join(task.presets)} ({preset})")
    run.add_argument(
        "--seed",
        type=int,
        default=seed if isinstance(defaults, Preset) else defaults.seed,
        help="of the weights and of the order of the batches (default: %(default)s)",
    )
    run.add_argument("--data", type=pathlib.Path, metavar="DIR", help="folder of the data set")
    run.add_argument("--out", metavar="DIR", default=str(out), help="default: %(default)s")
    run.add_argument("--resume", action="store_true", help="continue the run in --out")
    run.add_argument("--stop_after", type=int, metavar="STEP", help="stop there; --resume goes on")
    add_plugin_option(run)
    _add_settings(parser, defaults)
    args = parser.parse_args(argv[1:])
    meta = _saved_meta(out) if args.resume else {}
    config = _configured(args, defaults, task, preset, args.seed)
    if args.stop_after is not None and args.stop_after < 1:
        raise UserError(f"--stop_after must be at least 1, got {args.stop_after}")
    data = task.load_data(config.data, args.data, model=config.model, meta=meta)
    config = dataclasses.replace(config, model=_sized(config.model, data))
    _make_folder(out)
    trainer = Trainer(task, config, data)
    if args.resume:
        trainer.restore(out)
    evaluation = trainer.fit(out, stop_after=args.stop_after)
    print(evaluation.line("test", task.metric))
    return 0


def evaluate(argv: Sequence[str]) -> int:
    """evaluate a checkpoint on the test data"""
    task, first = _first_pass("eval", argv, ("--checkpoint",), ())
    if first.checkpoint:
        defaults = _saved_run(task, pathlib.Path(first.checkpoint))
    elif any(flag in argv for flag in ("-h", "--help")):
        defaults = _preset(task, next(iter(task.presets)))
    else:
        raise UserError("--checkpoint DIR is required")
    parser = _parser("eval", task)
    run = parser.add_argument_group("run")
    run.add_argument("--checkpoint", metavar="DIR", help="--out folder of a training run")
    run.add_argument("--data", type=pathlib.Path, metavar="DIR", help="folder of the data set")
    size = defaults.train.eval_batch_size
    text = "samples, or streams, per batch (default: %(default)s)"
    run.add_argument("--eval_batch_size", type=int, default=size, help=text)
    add_plugin_option(run)
    jdeq.add_deq_args(parser, defaults.deq)
    args = parser.parse_args(argv[1:])
    if args.eval_batch_size < 1:
        raise UserError(f"--eval_batch_size must be at least 1, got {args.eval_batch_size}")
    deq = _valid(lambda: jdeq.DEQConfig.from_args(args))
    assert isinstance(defaults, RunConfig)
    same_weights = ("norm_type", "norm_no_scale")
    for name in same_weights:
        if getattr(deq, name) != getattr(defaults.deq, name):
            raise UserError(f"--{name} cannot change after training: it defines the parameters")
    checkpoint = pathlib.Path(args.checkpoint)
    meta = _saved_meta(checkpoint)
    data = task.load_data(defaults.data, args.data, model=defaults.model, meta=meta)
    if _sized(defaults.model, data) != defaults.model:  # weights without a vocabulary of their own
        raise UserError(f"{checkpoint}: the model is not one for these data, with {data.sizes}")
    model = nnx.eval_shape(lambda: task.build(defaults.model, deq, rngs=nnx.Rngs(0)))
    _, params, rest = nnx.split(model, nnx.Param, ...)
    rest = jax.eval_shape(lambda rest: fresh_carry(rest, defaults.train.batch_size), rest)
    opt_state = jax.eval_shape(task.optimizer(defaults.train).init, params)
    with open_checkpoints(checkpoint) as checkpoints:
        params, rest, _ = checkpoints.restore((params, rest, opt_state))
    evaluation = Evaluator(task, model)(params, rest, data.test, args.eval_batch_size)
    print(evaluation.line("test", task.metric))
    return 0


def parity(argv: Sequence[str]) -> int:
    """compare with a reference folder; status 0 only within the tolerances"""
    task = _task("parity", argv)
    parser = _parser("parity", task)
    parser.add_argument("folder", type=pathlib.Path, metavar="DIR", help="reference folder")
    rows = task.parity(parser.parse_args(argv[1:]))
    print(table(rows))
    failed = sum(not row.ok for row in rows)
    print(f"{failed} of {len(rows)} outside the tolerance" if failed else "all inside")
    return 1 if failed else 0


def import_weights(argv: Sequence[str]) -> int:
    """make a checkpoint of a PyTorch state dict"""
    task = _task("import", argv)
    parser = _parser("import", task)
    parser.add_argument("file", type=pathlib.Path, metavar="FILE", help=".npz, .safetensors, .pt")
    presets = ", ".join(task.presets)
    parser.add_argument("--preset", default=next(iter(task.presets)), help=presets)
    text = "sizes and DEQ options instead of the preset's: the original's, or those of a run here"
    parser.add_argument("--config", type=pathlib.Path, metavar="JSON", help=text)
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR", required=True)
    args = parser.parse_args(argv[1:])
    preset = _preset(task, args.preset)
    model, deq = preset.model, preset.deq
    if args.config is not None:
        model, deq = converted_config(task, preset, args.config)
    config = RunConfig(task.name, args.preset, preset.data, 0, model, deq, preset.train)
    _make_folder(args.out)
    arrays = import_checkpoint(task, config, args.file, args.out)
    size = sum(array.size for array in arrays.values())
    print(f"{len(arrays)} arrays, {size:,} numbers from {args.file} are a checkpoint in {args.out}")
    return 0


def export_weights(argv: Sequence[str]) -> int:
    """write a checkpoint as a PyTorch state dict"""
    task = _task("export", argv)
    parser = _parser("export", task)
    parser.add_argument("file", type=pathlib.Path, metavar="FILE", help=".npz")
    text = "--out folder of a training run"
    parser.add_argument("--checkpoint", type=pathlib.Path, metavar="DIR", required=True, help=text)
    args = parser.parse_args(argv[1:])
    arrays = export_checkpoint(task, args.checkpoint)
    save_arrays(args.file, arrays)
    print(f"{len(arrays)} arrays of {args.checkpoint} are in {args.file}")
    return 0


def list_models(argv: Sequence[str]) -> int:
    """models, presets, parameter counts and data"""
    parser = argparse.ArgumentParser(prog="python -m zoo list", allow_abbrev=False)
    parser.parse_args(argv)
    for name in MODELS:
        task = get_task(name)
        print(f"{name}: {task.summary}")
        for preset_name, preset in task.presets.items():
            count = count_parameters(task, preset)
            print(f"  {preset_name:16} {count:>12,} parameters  {preset.data:18} {preset.summary}")
    return 0


def count_parameters(task: Task, preset: Preset) -> int:
    """Parameters of a preset's model, without making any."""
    model = nnx.eval_shape(lambda: task.build(preset.model, preset.deq, rngs=nnx.Rngs(0)))
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "train": train,
    "eval": evaluate,
    "parity": parity,
    "import": import_weights,
    "export": export_weights,
    "list": list_models,
}


def _task(command: str, argv: Sequence[str]) -> Task:
    """The task named by the first argument."""
    if not argv or argv[0].startswith("-"):
        if any(flag in argv for flag in ("-h", "--help")):
            print(f"usage: python -m zoo {command} MODEL [options]\n\nMODEL: {', '.join(MODELS)}")
            sys.exit(0)
        raise UserError(f"expected a model right after the command: {', '.join(MODELS)}")
    return get_task(argv[0])


def _first_pass(
    command: str, argv: Sequence[str], options: Sequence[str], flags: Sequence[str]
) -> tuple[Task, argparse.Namespace]:
    """Reads the few options on which the others depend: their defaults, and what may be named."""
    task = _task(command, argv)
    parser = argparse.ArgumentParser(
        prog=f"python -m zoo {command} {task.name}", add_help=False, allow_abbrev=False
    )
    for name in options:
        parser.add_argument(name)
    for name in flags:
        parser.add_argument(name, action="store_true")
    add_plugin_option(parser)
    first = parser.parse_known_args(argv[1:])[0]
    for plugin in first.plugin:
        load_plugin(plugin)
    return task, first


def _parser(command: str, task: Task) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"python -m zoo {command} {task.name}", description=task.summary, allow_abbrev=False
    )


def _add_settings(parser: argparse.ArgumentParser, defaults: Preset | RunConfig) -> None:
    add_options(parser, "training", defaults.train)
    add_options(parser, "model", defaults.model)
    jdeq.add_deq_args(parser, defaults.deq)


def _configured(
    args: argparse.Namespace, defaults: Preset | RunConfig, task: Task, preset: str, seed: int
) -> RunConfig:
    if seed < 0:
        raise UserError(f"--seed must not be negative, got {seed}")
    return RunConfig(
        name=task.name,
        preset=preset,
        data=defaults.data,
        seed=seed,
        model=_valid(lambda: read_options(args, defaults.model)),
        deq=_valid(lambda: jdeq.DEQConfig.from_args(args)),
        train=_valid(lambda: read_options(args, defaults.train)),
    )


def _valid(make: Callable[[], T]) -> T:
    """What `make` returns; settings that do not fit together are the user's mistake."""
    try:
        return make()
    except (TypeError, ValueError) as e:
        raise UserError(str(e)) from e


def _preset(task: Task, name: str) -> Preset:
    if name not in task.presets:
        raise UserError(f"unknown preset {name!r}: choose from {', '.join(task.presets)}")
    return task.presets[name]


def _saved_run(task: Task, folder: pathlib.Path) -> RunConfig:
    with open_checkpoints(folder) as checkpoints:
        saved = RunConfig.from_dict(checkpoints.restore_config())
    if saved.name != task.name:
        raise UserError(f"{folder}: a checkpoint of model {saved.name!r}, not {task.name!r}")
    return saved


def _sized(model: T, data: Data) -> T:
    """The model's configuration with the sizes that follow from the data."""
    return _valid(lambda: dataclasses.replace(model, **data.sizes))  # pyright: ignore


def _saved_meta(folder: pathlib.Path) -> dict[str, Any]:
    with open_checkpoints(folder) as checkpoints:
        return checkpoints.restore_meta()


def _make_folder(out: pathlib.Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"--out {out}: {e.strerror}") from e
