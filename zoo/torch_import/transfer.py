"""Moves named arrays into a model and out of it, with PyTorch's names and layouts."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from zoo.torch_import.load import StateDictError
from zoo.torch_import.names import TorchNames

TRANSFERRED = (nnx.Param, nnx.BatchStat)


def import_arrays(model: nnx.Module, arrays: Mapping[str, np.ndarray], names: TorchNames) -> None:
    """Overwrites every parameter and running statistic of `model`, in place.

    Values are cast to the model's dtypes. The model may be abstract (`nnx.eval_shape`).

    Raises:
        StateDictError: keys are missing or unknown, or shapes are wrong; the text lists all
            of them, and the model is untouched.
    """
    variables = {
        names.of(path): variable
        for path, variable in nnx.to_flat_state(nnx.state(model, TRANSFERRED))
    }
    given = {name: value for name, value in arrays.items() if not names.ignores(name)}
    problems = [f"missing: {name}" for name in variables if name not in given]
    problems += [f"unknown: {name}" for name in given if name not in variables]
    for name, variable in variables.items():
        wanted = _torch_shape(variable.shape, names.keeps_layout(name))
        if name in given and np.shape(given[name]) != wanted:
            problems.append(f"shape of {name}: {np.shape(given[name])}, expected {wanted}")
    if problems:
        raise StateDictError(f"{len(problems)} keys do not fit: " + "; ".join(problems))
    new = {}
    for path, variable in nnx.to_flat_state(nnx.state(model, TRANSFERRED)):
        name = names.of(path)
        value = given[name] if names.keeps_layout(name) else _from_torch(given[name])
        new[path] = variable.replace(jnp.asarray(value, variable.dtype))
    nnx.update(model, nnx.from_flat_state(new))


def export_arrays(state: nnx.State, names: TorchNames) -> dict[str, np.ndarray]:
    """Arrays of a state (parameters, statistics, gradients) in PyTorch's names and layouts."""
    arrays = {}
    for path, variable in nnx.to_flat_state(state):
        name = names.of(path)
        value = np.asarray(jax.device_get(variable[...]))
        arrays[name] = value if names.keeps_layout(name) else _to_torch(value)
    return arrays


def _to_torch(value: np.ndarray) -> np.ndarray:
    """(spatial..., in, out) -> (out, in, spatial...); vectors stay."""
    n = value.ndim
    return value if n < 2 else value.transpose(n - 1, n - 2, *range(n - 2))


def _from_torch(value: np.ndarray) -> np.ndarray:
    """(out, in, spatial...) -> (spatial..., in, out); vectors stay."""
    n = value.ndim
    return value if n < 2 else value.transpose(*range(2, n), 1, 0)


def _torch_shape(shape: tuple[int, ...], as_is: bool) -> tuple[int, ...]:
    return shape if as_is or len(shape) < 2 else (shape[-1], shape[-2], *shape[:-2])
