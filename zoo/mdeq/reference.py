"""Reads a reference folder: sizes, weights, inputs and what the original made of them."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping

import numpy as np
from flax import nnx

import jdeq
from zoo.arrays import ArraysError
from zoo.errors import UserError
from zoo.mdeq.config import MDEQConfig
from zoo.mdeq.model import MDEQ
from zoo.mdeq.torch_names import torch_names
from zoo.mdeq.upstream import model_config
from zoo.upstream.reference import Arrays, deq_config
from zoo.upstream.transfer import import_arrays

FILES = ("state", "effective_weights", "io", "grads_ift", "grads_phantom")


class Maps(Arrays):
    """Named arrays, feature maps among them."""

    def maps(self, name: str, n: int) -> tuple[np.ndarray, ...]:
        """Feature maps `name_0` ... `name_{n-1}` from NCHW to NHWC."""
        return tuple(self[f"{name}_{i}"].transpose(0, 2, 3, 1) for i in range(n))


@dataclasses.dataclass(frozen=True)
class Reference:
    """One reference folder: `files` holds the arrays, by the name of their `.npz`."""

    folder: pathlib.Path
    config: MDEQConfig
    norm: Mapping[str, object]
    phantom: Mapping[str, float]
    files: Mapping[str, Maps]

    @classmethod
    def read(cls, folder: pathlib.Path) -> "Reference":
        """Reads everything.

        Raises:
            UserError: a file or a key is missing, or cannot be read; the text names it.
        """
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
        path = folder / "config.json"
        try:
            content = json.loads(path.read_text())
            files = {name: Maps(folder / f"{name}.npz") for name in FILES}
            x = files["io"]["x"]
            if x.ndim != 4:
                raise UserError(f"array x of io.npz has {x.ndim} axes, expected 4 (NCHW)")
            return cls(
                folder=folder,
                config=model_config(content, x.shape[1], x.shape[2:]),
                norm=deq_config("deq_args", content["deq_args"]).part("norm"),
                phantom={k: content["meta"]["phantom"][k] for k in ("grad", "tau")},
                files=files,
            )
        except FileNotFoundError as e:
            raise UserError(f"{path}: no such file") from e
        except KeyError as e:
            raise UserError(f"{path}: no entry {e}") from e
        except (OSError, TypeError, ValueError) as e:
            if isinstance(e, UserError):
                raise
            raise UserError(f"{path}: {e}") from e

    def model(self, dtype, **deq) -> MDEQ:
        """The reference's model and weights in `dtype`, with these DEQ options."""
        config = jdeq.DEQConfig(**self.norm, **deq)  # pyright: ignore[reportArgumentType]
        model = nnx.eval_shape(
            lambda: MDEQ(self.config, config, rngs=nnx.Rngs(0), param_dtype=dtype)
        )
        state = self.files["state"]
        try:
            import_arrays(model, state, torch_names(self.config))
        except ArraysError as e:
            raise UserError(f"{state.path}: {e}") from e
        return model
