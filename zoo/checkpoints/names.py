"""What the arrays of a state are called, on the disk and in messages."""

import re
import urllib.parse
from collections.abc import Iterable, Mapping
from typing import Any

import jax
from flax import nnx
from jax.tree_util import keystr, tree_leaves_with_path

PER_KERNEL = re.compile(r"(.*\b(?:scales|vectors)\.)(.*\.)?kernel(\.[uv])?")
SHOWN = 8  # names in a message; a whole model's would fill screens


def named(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by their paths, in its order: `params.full_stage.cell.kernel`.

    Dots separate. Those that are part of a key, and whatever a file format might read otherwise,
    are percent-encoded. So no two leaves have one name, and none is the beginning of another's
    path. How Flax calls the array inside a variable is left out, as that differs between its
    versions.

    Example:
        >>> import jax.numpy as jnp
        >>> list(named({"a": [jnp.ones(2), jnp.ones(3)], "b.c": jnp.ones(4)}))
        ['a.0', 'a.1', 'b%2Ec']
    """
    found = {}
    for path, node in tree_leaves_with_path(tree, is_leaf=_is_variable):
        if _is_variable(node):
            found |= {_name((*path, *inner[1:])): a for inner, a in tree_leaves_with_path(node)}
        else:
            found[_name(path)] = node
    assert len(found) == len(jax.tree.leaves(tree)), "two arrays of one name"
    return found


def before_layout_3(name: str) -> str:
    """What an array was called while norms had theirs under the dotted path of a kernel's module.

    Example:
        >>> before_layout_3("params.cell.scales.blocks.0.conv.kernel")
        'params.cell.scales.blocks%2E0%2Econv'
        >>> before_layout_3("rest.vectors.kernel.u")
        'rest.vectors..u'
    """
    parts = PER_KERNEL.fullmatch(name)
    if parts is None:
        return name
    tree, module, vector = parts.groups("")
    return tree + module.removesuffix(".").replace(".", "%2E") + vector


def described(leaf: Any) -> str:
    """Dtype and shape: `float32[3, 4]`."""
    return f"{leaf.dtype}{list(leaf.shape)}"


def difference(saved: Mapping[str, str], wanted: Mapping[str, str]) -> str | None:
    """How arrays that were saved, by name, differ from those that are wanted; None: not at all."""
    missing = _listed(name for name in wanted if name not in saved)
    surplus = _listed(name for name in saved if name not in wanted)
    others = _listed(
        f"{name} ({saved[name]} there, {wanted[name]} here)"
        for name in wanted
        if name in saved and saved[name] != wanted[name]
    )
    parts = {"missing": missing, "surplus": surplus, "different": others}
    return "; ".join(f"{what} {names}" for what, names in parts.items() if names) or None


def _is_variable(node: Any) -> bool:
    return isinstance(node, nnx.Variable)


def _name(path: Iterable[Any]) -> str:
    keys = (keystr((key,), simple=True) for key in path)
    return ".".join(urllib.parse.quote(key, safe="").replace(".", "%2E") for key in keys)


def _listed(names: Iterable[str]) -> str:
    """For people, who do not need to know how a name is encoded."""
    names = [urllib.parse.unquote(name) for name in names]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
