"""Reads a reference folder: sizes, weights, inputs and what the original made of them."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from zoo.arrays import ArraysError
from zoo.errors import UserError
from zoo.lm import upstream
from zoo.lm.config import LMConfig
from zoo.lm.model import LanguageModel
from zoo.lm.runs import Gradient, Run
from zoo.lm.torch_names import import_state_dict
from zoo.upstream.reference import Arrays, deq_config, read_config

FILES = ("state", "effective_weights", "io")


@dataclasses.dataclass(frozen=True)
class Reference:
    """One reference folder: `files` holds the arrays, by the name of their `.npz`."""

    folder: pathlib.Path
    config: LMConfig
    deq: Mapping[str, Any]
    files: Mapping[str, Arrays]
    runs: tuple[Run, ...]

    @classmethod
    def read(cls, folder: pathlib.Path) -> "Reference":
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
            config, deq = upstream.model_config(content), upstream.deq_options(content)
            deq_config("deq_args", deq)
        except UserError as e:
            raise UserError(f"{path}: {e}") from e
        files = {name: Arrays(folder / f"{name}.npz") for name in FILES}
        # all that is recorded of runs was made without dropout; there are masks for it apart
        config = dataclasses.replace(config, dropout=0.0, dropatt=0.0)
        prefixes = [m[1] for name in files["io"] if (m := re.match(r"(.*)_seg0_z_out$", name))]
        gradients = [Gradient.of(p) for p in sorted(folder.glob("grads_*.npz"))]
        for gradient in gradients:
            if gradient.run not in prefixes:
                raise UserError(f"{gradient.path}: no run {gradient.run!r} in io.npz")
        runs = tuple(Run.named(name, gradients) for name in prefixes)
        return cls(folder, config, deq, files, runs)

    @property
    def main_run(self) -> Run | None:
        """That of the losses in the original's order: the unrolled run, else the implicit one."""
        kinds = ("unroll", "ift")
        return next((r for kind in kinds for r in self.runs if r.name.startswith(kind)), None)

    @property
    def n_segments(self) -> int:
        """How many segments follow each other."""
        return sum(re.fullmatch(r"seg\d+_data", name) is not None for name in self.files["io"])

    def segment(self, k: int) -> tuple[Array, Array]:
        """Tokens and targets (B, L) of segment k."""
        io = self.files["io"]
        return jnp.asarray(io[f"seg{k}_data"]), jnp.asarray(io[f"seg{k}_target"])

    def sequence(self, name: str) -> np.ndarray:
        """An array of `io.npz` as (B, length, features); "deq_seq" keeps features first."""
        return self.tokens_first(self.files["io"][name])

    def tokens_first(self, array: np.ndarray) -> np.ndarray:
        """The same for an array (B, features, length) of the original's, if it keeps that."""
        return array.swapaxes(-1, -2) if self.config.design == "deq_seq" else array

    def model(self, dtype: DTypeLike, **deq: Any) -> LanguageModel:
        """The reference's model and weights in `dtype`, with these DEQ options changed."""
        config = deq_config("deq_args", self.deq, **deq)
        model = LanguageModel(self.config, config, rngs=nnx.Rngs(0), param_dtype=dtype)
        state = self.files["state"]
        try:
            import_state_dict(model, state)
        except ArraysError as e:
            raise UserError(f"{state.path}: {e}") from e
        return model
