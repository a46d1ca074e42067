"""How a model's variables are called in its PyTorch original."""

import dataclasses
import re
from collections.abc import Iterable

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

    >>> names = TorchNames(rules=((r"^stem\.(\d)\.conv", r"downsample.\1"),))
    >>> names.of(("stem", 0, "conv", "kernel"))
    'downsample.0.weight'
    """

    rules: tuple[tuple[str, str], ...] = ()
    ignored: str = r"\.num_batches_tracked$"
    as_is: str = r"(?!)"

    def of(self, path: Iterable[object]) -> str:
        """The PyTorch name of the variable at `path`."""
        name = ".".join(map(str, path))
        for pattern, replacement in self.rules + LEAVES:
            name = re.sub(pattern, replacement, name)
        return name

    def ignores(self, name: str) -> bool:
        """Whether a PyTorch name is skipped."""
        return re.search(self.ignored, name) is not None

    def keeps_layout(self, name: str) -> bool:
        """Whether a PyTorch name's array is not transposed."""
        return re.search(self.as_is, name) is not None
