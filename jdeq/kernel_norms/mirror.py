"""Trees with an entry for each kernel of a module, in the place that the kernel has there."""

from collections.abc import Mapping
from typing import Any

from flax import nnx


def mirrored(entries: Mapping[str, Any]) -> nnx.Dict:
    """Puts entries, by the dotted path of the kernel's module, where the kernels are.

    So the path of an entry in a state is the kernel's own, key by key, and no key has a dot.

    Example:
        >>> mirrored({"branches.0": 1.0, "": 2.0})
        Dict({
          'branches': Dict({
            '0': Dict({
              'kernel': 1.0
            })
          }),
          'kernel': 2.0
        })
    """
    tree = nnx.Dict()
    for path, entry in entries.items():
        node: Any = tree
        for key in _keys(path):
            if key not in node:
                node[key] = nnx.Dict()
            node = node[key]
        node["kernel"] = entry
    return tree


def entry_of(tree: nnx.Dict, path: str) -> Any:
    """The entry of the kernel of the module at a dotted path."""
    node: Any = tree
    for key in _keys(path):
        node = node[key]
    return node["kernel"]


def _keys(path: str) -> list[str]:
    return path.split(".") if path else []
