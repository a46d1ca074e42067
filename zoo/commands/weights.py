"""`python -m zoo import` and `export`: a model's weights, or the model as a program."""

import pathlib
from collections.abc import Sequence
from typing import Any

from zoo.arrays import save_arrays
from zoo.artefact import exported, save_artefact, signature
from zoo.checkpoints.checkpoint import find_checkpoint
from zoo.checkpoints.conversion import converted_config, import_checkpoint
from zoo.checkpoints.saved import restored_model, saved_run
from zoo.commands.arguments import (
    add_checkpoint_options,
    make_folder,
    parser_of,
    task_of,
)
from zoo.errors import UserError
from zoo.run import RunConfig
from zoo.task import PredictingTask


def import_weights(argv: Sequence[str]) -> int:
    """Makes a checkpoint of a PyTorch state dict; the exit status."""
    task = task_of(argv)
    parser = parser_of("import", task)
    parser.add_argument("file", type=pathlib.Path, metavar="FILE", help=".npz, .safetensors, .pt")
    presets = ", ".join(task.presets)
    parser.add_argument("--preset", default=next(iter(task.presets)), help=presets)
    text = "sizes and DEQ options instead of the preset's: the original's, or those of a run here"
    parser.add_argument("--config", type=pathlib.Path, metavar="JSON", help=text)
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR", required=True)
    args = parser.parse_args(argv[1:])
    config = RunConfig.of_preset(task, args.preset)
    if args.config is not None:
        config = converted_config(task, config, args.config)
    make_folder(args.out)
    arrays = import_checkpoint(task, config, args.file, args.out)
    size = sum(array.size for array in arrays.values())
    print(f"{len(arrays)} arrays, {size:,} numbers from {args.file} are a checkpoint in {args.out}")
    return 0


def export_weights(argv: Sequence[str]) -> int:
    """Writes a checkpoint as a state dict, or as a program of its own; the exit status."""
    task = task_of(argv)
    parser = parser_of("export", task)
    text = ".npz: a state dict; .stablehlo: for jax.export.deserialize, parameters inside"
    parser.add_argument("file", type=pathlib.Path, metavar="FILE", help=text)
    add_checkpoint_options(parser, required=True)
    args = parser.parse_args(argv[1:])
    if args.file.suffix not in (".npz", ".stablehlo"):
        raise UserError(f"{args.file}: expected a file ending in .npz or .stablehlo")
    checkpoint = find_checkpoint(args.checkpoint, best=args.best)
    model: Any = restored_model(task, saved_run(task, checkpoint), checkpoint)
    if args.file.suffix == ".npz":
        arrays = task.weights.state_dict(model)
        save_arrays(args.file, arrays)
        what = f"{len(arrays)} arrays"
    else:
        if not isinstance(task, PredictingTask):
            raise UserError(f"model {task.name!r} is no function to be exported as a program")
        model.eval()
        artefact = exported(task, model)
        save_artefact(args.file, artefact)
        what = f"the program {signature(artefact)}"
    print(f"{args.file}: {what} of {checkpoint.path}")
    return 0
