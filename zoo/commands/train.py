"""`python -m zoo train`."""

import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Sequence

from jdeq.command_line import add_options, read_options
from jdeq.extend import check_int
from zoo.checkpoints.checkpoint import find_checkpoint
from zoo.checkpoints.saved import saved_run, sized
from zoo.commands.arguments import (
    add_data_option,
    add_resume_option,
    first_pass,
    make_folder,
    parser_of,
    valid,
)
from zoo.devices.compile_cache import add_cache_option, use_cache
from zoo.devices.distributed import add_process_options, is_first, join_processes
from zoo.devices.mesh import Devices
from zoo.errors import UserError
from zoo.folder import RunFolder
from zoo.lock import locked
from zoo.run import RunConfig
from zoo.training.fit import Watch
from zoo.training.trainer import Trainer

DEFAULT_OUT = "runs"


def train(argv: Sequence[str]) -> int:
    """Trains a model; the exit status."""
    join_processes(argv)
    task, first = first_pass("train", argv, ("--preset", "--out"), add_more=add_resume_option)
    out = pathlib.Path(first.out or f"{DEFAULT_OUT}/{task.name}")
    checkpoint = None
    if first.resume == "always" or first.resume and RunFolder(out).checkpoint_paths():
        checkpoint = find_checkpoint(out)
        defaults = saved_run(task, checkpoint)
        if first.preset not in (None, defaults.preset):
            raise UserError(f"--resume continues a run of preset {defaults.preset!r} in {out}")
    else:
        defaults = RunConfig.of_preset(task, first.preset)
    parser = parser_of("train", task)
    run = parser.add_argument_group("run")
    text = f"{', '.join(task.presets)} (%(default)s)"
    run.add_argument("--preset", default=defaults.preset, help=text)
    run.add_argument(
        "--seed",
        type=int,
        default=defaults.seed,
        help="of the weights and of the order of the batches (default: %(default)s)",
    )
    add_data_option(run)
    run.add_argument("--out", metavar="DIR", default=str(out), help="default: %(default)s")
    add_resume_option(run)
    text = "start from the parameters of this run or checkpoint; all but the sizes may differ"
    run.add_argument("--init", metavar="DIR", help=text)
    run.add_argument("--stop_after", type=int, metavar="STEP", help="stop there; --resume goes on")
    add_cache_option(run)
    add_options(parser, Watch(), "watching")
    add_process_options(parser)
    add_options(parser, Devices(), "devices", command="train")
    defaults.add_options(parser, command="train")
    args = parser.parse_args(argv[1:])
    source = None  # a resumed run has begun already, whatever it was with
    if args.init is not None and checkpoint is None:
        source = find_checkpoint(pathlib.Path(args.init))
    known = checkpoint or source
    meta = {} if known is None else known.meta
    config = defaults.read_options(args, command="train")
    config = valid(lambda: dataclasses.replace(config, seed=args.seed))
    if args.stop_after is not None:
        valid(lambda: check_int("--stop_after", args.stop_after, low=1))
    use_cache(args.compile_cache)
    watch = read_options(args, Watch())
    watch.check(task)
    data = task.load_data(config.data, args.data, model=config.model, meta=meta)
    config = dataclasses.replace(config, model=sized(config.model, data))
    make_folder(out)
    devices = valid(lambda: read_options(args, Devices(), command="train"))
    with locked(out) if is_first() else contextlib.nullcontext():
        trainer = Trainer(task, config, data, devices)
        if source is not None:
            trainer.start_from(source)
        if checkpoint is not None:
            trainer.restore(checkpoint)
        elif is_first() and (aside := RunFolder(out).set_aside()) is not None:
            print(f"{out}: the run that was there is now in {aside}", file=sys.stderr)
        trainer.fit(out, stop_after=args.stop_after, watch=watch)
    return 0
