"""How a model's variables are called in its PyTorch original."""

import dataclasses
import re
from collections.abc import Iterable, Mapping

import numpy as np

LEAVES = (
    (r"\.(kernel|scale|embedding)$", ".weight"),
    (r"\.mean$", ".running_mean"),
    (r"\.var$", ".running_var"),
)


@dataclasses.dataclass(frozen=True)
class TorchNames:
    r"""Regular expressions that turn a variable's dotted path into its PyTorch name.

    Args:
        rules: (pattern, replacement) pairs, applied in order with `re.sub`; those for the
            leaves that every model has (`kernel` -> `weight`, ...) come after them.
        ignored: pattern of PyTorch names without a counterpart, such as counters.
        as_is: pattern of PyTorch names whose arrays have the same layout on both sides.
        pointwise: pattern of PyTorch names of convolutions of width 1 that are linear layers here:
            their arrays have one more axis, of length 1, at the end.
        tied: PyTorch names that are second names of another one's array.

    >>> names = TorchNames(rules=((r"^stem\.(\d)\.conv", r"downsample.\1"),))
    >>> names.of(("stem", 0, "conv", "kernel"))
    'downsample.0.weight'
    """

    rules: tuple[tuple[str, str], ...] = ()
    ignored: str = r"\.num_batches_tracked$"
    as_is: str = r"(?!)"
    pointwise: str = r"(?!)"
    tied: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def of(self, path: Iterable[object]) -> str:
        """The PyTorch name of the variable at `path`."""
        name = ".".join(map(str, path))
        for pattern, replacement in self.rules + LEAVES:
            name = re.sub(pattern, replacement, name)
        return name

    def ignores(self, name: str) -> bool:
        """Whether a PyTorch name is skipped."""
        return re.search(self.ignored, name) is not None

    def to_torch(self, name: str, value: np.ndarray) -> np.ndarray:
        """An array in PyTorch's layout: (spatial..., in, out) -> (out, in, spatial...)."""
        n = value.ndim
        if n > 1 and not re.search(self.as_is, name):
            value = value.transpose(n - 1, n - 2, *range(n - 2))
        return value[..., None] if re.search(self.pointwise, name) else value

    def from_torch(self, name: str, value: np.ndarray) -> np.ndarray:
        """The inverse of `to_torch`."""
        if re.search(self.pointwise, name):
            value = value[..., 0]
        n = value.ndim
        if n > 1 and not re.search(self.as_is, name):
            value = value.transpose(*range(2, n), 1, 0)
        return value
