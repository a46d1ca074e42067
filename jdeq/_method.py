"""Solvers and backwards as pytrees: arrays among the settings are values, all else is static."""

import dataclasses
import enum
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array


class Method:
    """Base of solvers and backwards, frozen dataclasses of settings: each instance is a pytree.

    Its leaves are the arrays among the settings, those in nested settings, tuples and other
    pytrees included: a traced tolerance, trained weights. So they can be passed through `jit`,
    `vmap` and `grad` like any other argument. Everything else makes up the structure, compared by
    value: an instance without arrays has no leaves and can be hashed. Nothing is checked anew when
    JAX puts an instance together.

    Example:
        >>> import jax, jax.numpy as jnp, jdeq
        >>> jax.tree.leaves(jdeq.Anderson(m=4))
        []
        >>> len(jax.tree.leaves(jdeq.Anderson(m=4, tol=jnp.asarray(1e-4))))
        1
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        jax.tree_util.register_pytree_with_keys(
            cls,
            lambda self: _flatten(self, with_keys=True),
            lambda structure, arrays: _unflatten(cls, structure, arrays),
            lambda self: _flatten(self, with_keys=False),
        )


class _Structure(NamedTuple):
    """What of an instance is static: `tree` of its fields; leaf by leaf, its path and its value."""

    tree: Any
    paths: tuple[Any, ...]
    values: tuple[Any, ...]


class _Stand(enum.Enum):
    """What stands for an array among static values; copied and pickled, it is still the same."""

    ARRAY = enum.auto()


_ARRAY = _Stand.ARRAY


def is_array(x: Any) -> bool:
    """Whether a setting is a value; NumPy's scalars count as Python numbers."""
    return isinstance(x, Array | np.ndarray)


def is_one(x: Any) -> bool:
    """Whether a setting is the number 1, for good."""
    return not is_array(x) and x == 1


def is_same(x: Any, y: Any) -> bool:
    """Whether two settings are equal, for good."""
    return x is y or (not is_array(x) and not is_array(y) and x == y)


def _flatten(settings: Any, *, with_keys: bool) -> tuple[Sequence[Any], _Structure]:
    fields = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)}
    # of an instance that JAX put together, whose leaves may stand for anything: as it was
    structure = vars(settings).get("_structure")
    if structure is None:
        found, tree = jax.tree_util.tree_flatten_with_path(fields)
        paths = tuple(path for path, _ in found)
        leaves = [leaf for _, leaf in found]
        structure = _Structure(tree, paths, tuple(_ARRAY if is_array(x) else x for x in leaves))
    else:
        leaves = structure.tree.flatten_up_to(fields)
    rows = zip(structure.paths, leaves, structure.values, strict=True)
    arrays = [(_key(path), leaf) for path, leaf, value in rows if value is _ARRAY]
    return arrays if with_keys else [leaf for _, leaf in arrays], structure


def _unflatten(cls: type, structure: _Structure, arrays: Iterable[Any]) -> Any:
    given = iter(arrays)
    leaves = [next(given) if value is _ARRAY else value for value in structure.values]
    settings = object.__new__(cls)
    vars(settings).update(structure.tree.unflatten(leaves), _structure=structure)
    return settings


def _key(path: tuple[Any, ...]) -> Any:
    """One key for a path inside an instance: a field, or a field's entry."""
    first, *rest = path
    return jax.tree_util.GetAttrKey(first.key + jax.tree_util.keystr(tuple(rest)))
