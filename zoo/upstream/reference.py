"""A reference folder: sizes, weights, inputs, and what the original made of them."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from zoo.arrays import ArraysError
from zoo.errors import UserError
from zoo.upstream.files import Arrays, read_config
from zoo.upstream.original import Original
from zoo.upstream.rows import FLOAT32, FLOAT64, Row, Tolerances, compare, compare_many
from zoo.upstream.torchdeq import deq_config, folded
from zoo.upstream.transfer import export_arrays


class Outcome(NamedTuple):
    """Of a loss: its value (), what it returns besides, gradients, batch statistics afterwards."""

    loss: Array
    out: Any
    grads: nnx.State | None
    statistics: nnx.State


@dataclasses.dataclass(frozen=True)
class Reference:
    """One reference folder; `reference[name]` is an array of its `io.npz`, laid out as here.

    Attributes:
        original: whose folder it is.
        content: of its `config.json`.
        sizes: of the model.
        deq: TorchDEQ's options by name.
        files: the arrays, by the name of their `.npz`.
    """

    original: Original
    folder: pathlib.Path
    content: Mapping[str, Any]
    sizes: Any
    deq: Mapping[str, Any]
    files: Mapping[str, Arrays]

    @classmethod
    def read(cls, original: Original, folder: pathlib.Path) -> "Reference":
        """Reads everything.

        Raises:
            UserError: a file, field or array is missing, unknown or cannot be read; the text
                names it.
        """
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
        path = folder / "config.json"
        content = read_config(path)
        try:
            sizes, deq = original.sizes(content), original.deq_options(content)
            deq_config("deq_args", deq)
        except KeyError as e:
            raise UserError(f"{path}: no entry {e}") from e
        except (UserError, TypeError, ValueError) as e:
            raise UserError(f"{path}: {e}") from e
        files = {name: Arrays(folder / f"{name}.npz") for name in original.files}
        sizes = original.recorded_sizes(sizes, files["io"])
        return cls(original, folder, content, sizes, deq, files)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.original.layout(self.sizes, name, self.files["io"][name])

    def __contains__(self, name: str) -> bool:
        return name in self.files["io"]

    @property
    def tolerances(self) -> Tolerances:
        """Those of float64, or of float32 if the reference was made in it."""
        some = next(iter(self.files["effective_weights"].values()))
        return FLOAT64 if some.dtype == np.float64 else FLOAT32

    def entry(self, *names: str) -> Any:
        """What `config.json` has under nested names; raises UserError if there is nothing."""
        value: Any = self.content
        for name in names:
            if not isinstance(value, Mapping) or name not in value:
                raise UserError(f"{self.folder / 'config.json'}: no entry {'.'.join(names)}")
            value = value[name]
        return value

    def maps(self, name: str, n: int) -> tuple[Array, ...]:
        """Arrays `name_0` ... `name_{n-1}`."""
        return tuple(jnp.asarray(self[f"{name}_{i}"]) for i in range(n))

    def model(self, dtype: DTypeLike = jnp.float64, **deq: Any) -> Any:
        """The reference's model and weights in `dtype`, with these DEQ options changed."""
        config = deq_config("deq_args", self.deq, **deq)
        model = self.original.module(self.sizes, config, rngs=nnx.Rngs(0), param_dtype=dtype)
        state = self.files["state"]
        try:
            self.original.load(model, state)
        except ArraysError as e:
            raise UserError(f"{state.path}: {e}") from e
        return model

    def step(
        self,
        loss: Callable[..., tuple[Array, Any]],
        *,
        train: bool,
        gradients: bool,
        deq: Mapping[str, Any],
    ) -> Callable[..., Outcome]:
        """`loss(model, *args)`, a value and anything else, compiled for the reference's model.

        Args:
            loss: the function.
            train: in training mode, else in that of evaluation.
            gradients: differentiate it by the parameters.
            deq: DEQ options to change.
        """
        model = self.model(**deq)
        model.train() if train else model.eval()
        graphdef, params, rest = nnx.split(model, nnx.Param, ...)

        def of(params: nnx.State, *args: Any):
            merged = nnx.merge(graphdef, params, rest, copy=True)
            value, out = loss(merged, *args)
            return value, (out, nnx.state(merged, nnx.BatchStat))

        differentiated = jax.value_and_grad(of, has_aux=True)
        run = jax.jit(differentiated if gradients else lambda *args: (of(*args), None))

        def outcome(*args: Any) -> Outcome:
            (value, (out, statistics)), grads = run(params, *args)
            return Outcome(value, out, grads, statistics)

        return outcome

    def rows(self, got: Mapping[str, Any], tolerance: float) -> list[Row]:
        """Compares each quantity, or each map of it, with the array of its name in `io.npz`."""
        rows = []
        for name, value in got.items():
            if isinstance(value, tuple):
                maps = {f"{name}_{i}": each for i, each in enumerate(value)}
                rows += self.rows(maps, tolerance)
            else:
                rows.append(compare(name, value, self[name], tolerance))
        return rows

    def weights_row(self, model: nnx.Module) -> Row:
        """The normalised kernels of the equilibrium function."""
        is_kernel = lambda path, value: isinstance(value, nnx.Param) and path[-1] == "kernel"
        names = self.original.names(model)
        cell = folded(getattr(model, self.original.layer))
        kernels = export_arrays(nnx.state(cell, is_kernel), names)
        kernels = {self.original.prefix + name: value for name, value in kernels.items()}
        wanted = self.files["effective_weights"].like(kernels, names.ignores)
        return compare_many("effective weights", kernels, wanted, self.tolerances.function)

    def gradients_row(self, wanted: Arrays, model: nnx.Module, grads: Any, tolerance: float) -> Row:
        """The gradients of a file.

        PyTorch has none, rather than one of zeros, for what a loss does not depend on.
        """
        names = self.original.names(model)
        got = export_arrays(grads, names)
        got = {name: value for name, value in got.items() if name in wanted or value.any()}
        title = f"gradients {wanted.path.stem.removeprefix('grads_')}"
        want = wanted.like(got, names.ignores)
        return compare_many(title, got, want, tolerance, common_scale=True)

    def statistics_row(self, prefix: str, model: nnx.Module, statistics: Any) -> Row:
        """Running statistics, with those whose names in `io.npz` start with `prefix`."""
        names = self.original.names(model)
        want = self.files["io"].under(prefix)
        want = {name: value for name, value in want.items() if not names.ignores(name)}
        got = export_arrays(statistics, names)
        return compare_many(prefix.rstrip("/"), got, want, self.tolerances.equilibrium)
