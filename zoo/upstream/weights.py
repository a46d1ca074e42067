"""A model's arrays as a PyTorch state dict."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.upstream.names import TorchNames
from zoo.upstream.transfer import export_state_dict, import_arrays


class Weights:
    """How a model's arrays are called, and their layouts, in a state dict.

    By default they have the dotted paths that they have here, with PyTorch's names for the leaves
    (`weight` for `kernel`) and PyTorch's layouts.
    """

    def part(self, model: Any) -> Any:
        """The module whose arrays they are: all of a task's model, or a part of it."""
        return model

    def names(self, model: Any) -> TorchNames:
        """The table of such a module."""
        del model
        return TorchNames()

    def load(self, model: Any, arrays: Mapping[str, np.ndarray]) -> None:
        """Overwrites all arrays of a model with those of a state dict, in place.

        Raises `UserError` listing all keys that do not fit.
        """
        part = self.part(model)
        import_arrays(part, arrays, self.names(part))

    def state_dict(self, model: Any) -> dict[str, np.ndarray]:
        """The inverse: the arrays under all of their names."""
        part = self.part(model)
        return export_state_dict(part, self.names(part))
