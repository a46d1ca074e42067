"""Moves named arrays into a model and out of it, with PyTorch's names and layouts."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from zoo.arrays import ArraysError
from zoo.nn.buffer import Buffer
from zoo.upstream.names import TorchNames

Path = tuple[Any, ...]
TRANSFERRED = (nnx.Param, nnx.BatchStat, Buffer)


def import_arrays(model: nnx.Module, arrays: Mapping[str, np.ndarray], names: TorchNames) -> None:
    """Overwrites every parameter, running statistic and buffer of `model`, in place.

    Values are cast to the model's dtypes. The model may be abstract (`nnx.eval_shape`).

    Raises:
        ArraysError: keys are missing or unknown, shapes are wrong, tied arrays differ, or two
            variables have one name; the text lists all of them, and the model is untouched.
    """
    variables = _named(nnx.state(model, TRANSFERRED), names)
    given = {name: value for name, value in arrays.items() if not names.ignores(name)}
    wanted = {name: _torch_shape(names, name, v.shape) for name, (_, v) in variables.items()}
    wanted |= {second: wanted[name] for second, name in names.tied.items()}
    problems = [f"missing: {name}" for name in wanted if name not in given]
    problems += [f"unknown: {name}" for name in given if name not in wanted]
    for name, shape in wanted.items():
        if name in given and np.shape(given[name]) != shape:
            problems.append(f"shape of {name}: {np.shape(given[name])}, expected {shape}")
    if not problems:
        problems += [
            f"{second} is tied to {name}, but differs"
            for second, name in names.tied.items()
            if not np.array_equal(given[second], given[name])
        ]
    if problems:
        raise ArraysError(f"{len(problems)} keys do not fit: " + "; ".join(problems))
    new = {
        path: variable.replace(jnp.asarray(names.from_torch(name, given[name]), variable.dtype))
        for name, (path, variable) in variables.items()
    }
    nnx.update(model, nnx.from_flat_state(new))


def export_arrays(state: nnx.State, names: TorchNames) -> dict[str, np.ndarray]:
    """Arrays of a state (parameters, statistics, gradients) in PyTorch's names and layouts.

    An array that has two names is listed under its first one. Raises ArraysError if two arrays
    have one name.
    """
    return {
        name: names.to_torch(name, np.asarray(jax.device_get(variable[...])))
        for name, (_, variable) in _named(state, names).items()
    }


def export_state_dict(model: nnx.Module, names: TorchNames) -> dict[str, np.ndarray]:
    """What `import_arrays` takes: the arrays of a model under all of their names."""
    arrays = export_arrays(nnx.state(model, TRANSFERRED), names)
    return arrays | {second: arrays[name] for second, name in names.tied.items()}


def _named(state: nnx.State, names: TorchNames) -> dict[str, tuple[Path, nnx.Variable]]:
    """Variables and their paths by PyTorch name."""
    named: dict[str, tuple[Path, nnx.Variable]] = {}
    problems = []
    for path, variable in nnx.to_flat_state(state):
        name = names.of(path)
        if name in named:
            both = (".".join(map(str, p)) for p in (named[name][0], path))
            problems.append(f"{' and '.join(both)} are both called {name}")
        named[name] = path, variable
    if problems:
        raise ArraysError(f"names that are not unique: {'; '.join(problems)}")
    return named


def _torch_shape(names: TorchNames, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    return names.to_torch(name, np.broadcast_to(np.float32(0), shape)).shape
