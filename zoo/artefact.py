"""Models as programs that run without this code: StableHLO with the parameters inside."""

import pathlib

import jax
from jax import export

from zoo.errors import UserError
from zoo.task import PredictingTask

PLATFORMS = ("cpu", "cuda", "tpu")


def exported(task: PredictingTask, model) -> export.Exported:
    """The inference function of a model in evaluation mode, for any batch size.

    `jax.export.deserialize(bytearray).call(*inputs)` runs it: see `PredictingTask.inference` for
    what goes in and comes out. It runs on CPUs, GPUs and TPUs.
    """
    function, inputs = task.inference(model)
    (batch,) = export.symbolic_shape("batch")
    shapes = [jax.ShapeDtypeStruct((batch, *a.shape[1:]), a.dtype) for a in inputs]
    return export.export(jax.jit(function), platforms=PLATFORMS)(*shapes)


def save_artefact(path: pathlib.Path, artefact: export.Exported) -> None:
    """Writes it to a file.

    Raises:
        UserError: the file cannot be written, or the package flatbuffers is not installed.
    """
    try:
        content = artefact.serialize()
    except ImportError as e:
        raise UserError(f"{path}: install the package flatbuffers to write it") from e
    try:
        path.write_bytes(content)
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}") from e


def signature(artefact: export.Exported) -> str:
    """Inputs and outputs for people."""
    inputs, outputs = (
        ", ".join(map(str, avals)) for avals in (artefact.in_avals, artefact.out_avals)
    )
    return f"{inputs} -> {outputs}"
