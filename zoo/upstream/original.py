"""What a model states of its PyTorch original."""

import abc
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flax import nnx

import jdeq
from zoo.upstream.files import Arrays
from zoo.upstream.torchdeq import deq_config
from zoo.upstream.weights import Weights


class Original(Weights, abc.ABC):
    """Names of the arrays, sizes and DEQ options in the original's configuration, layouts.

    Attributes:
        module: makes the model that has the original's arrays: `module(sizes, deq, rngs=rngs,
            param_dtype=dtype)`.
        layer: the model's attribute that is the DEQ layer.
        prefix: of the names of the equilibrium function's arrays.
        files: which `.npz` a reference folder must have.
    """

    module: Callable[..., nnx.Module]
    layer: str
    prefix: str
    files: tuple[str, ...] = ("state", "effective_weights", "io")

    @abc.abstractmethod
    def sizes(self, content: Mapping[str, Any]) -> Any:
        """The model's configuration, from the original's.

        Raises `UserError`, `KeyError`, `TypeError` or `ValueError` if it cannot be used.
        """

    def deq_options(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """TorchDEQ's options by name; raises as `sizes`."""
        return content["deq_args"]

    def settings(self, content: Mapping[str, Any]) -> tuple[Any, jdeq.DEQConfig]:
        """Sizes and DEQ options; raises as `sizes`."""
        return self.sizes(content), deq_config("deq_args", self.deq_options(content))

    def recorded_sizes(self, sizes: Any, io: Arrays) -> Any:
        """Sizes of the model that a reference folder was recorded with, if they differ."""
        del io
        return sizes

    def layout(self, sizes: Any, name: str, array: np.ndarray) -> np.ndarray:
        """An array of `io.npz` as it is laid out here."""
        del sizes, name
        return array
