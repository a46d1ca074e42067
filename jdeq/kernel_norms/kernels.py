"""The kernels of a module, and which of their axes count output channels."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx

from ..norm.select import Entries, check_paths, matcher


class Kernel(NamedTuple):
    """A kernel's variable, and the axes that count output channels."""

    variable: nnx.Param
    channels: tuple[int, ...]


def module_kernels(
    module: nnx.Module, skip: type[nnx.Module], filter_out: Entries = ()
) -> dict[str, Kernel]:
    """Every floating `kernel` parameter of two axes or more, by the dotted path of its module.

    A kernel that several modules share is listed once, where it is met first.

    Args:
        module: searched with all that it contains.
        skip: modules of this type, and what they contain, are left alone.
        filter_out: so are these: dotted paths, types, or predicates `(path, module) -> bool`.

    Raises:
        ValueError: `filter_out` names a path that is not there.
    """
    modules = {".".join(map(str, path)): node for path, node in nnx.iter_modules(module)}
    check_paths("filter_out", filter_out, modules)
    left_out = matcher(filter_out)
    skipped = {
        id(inner)
        for node in modules.values()
        if isinstance(node, skip)
        for _, inner in nnx.iter_modules(node)
    }
    seen: set[int] = set()
    kernels = {}
    for path, node in modules.items():
        variable: Any = getattr(node, "kernel", None)
        if id(node) in skipped or not _holds_kernel(variable) or id(variable) in seen:
            continue
        seen.add(id(variable))
        if not left_out(path, node):
            kernels[path] = Kernel(variable, _channels(node))
    return kernels


def _holds_kernel(variable: Any) -> bool:
    if not isinstance(variable, nnx.Param):
        return False
    return len(variable.shape) >= 2 and jnp.issubdtype(variable.dtype, jnp.floating)


def _channels(module: Any) -> tuple[int, ...]:
    ndim = len(module.kernel.shape)
    if isinstance(module, nnx.LinearGeneral):
        n_out = len(module.out_features) if isinstance(module.out_features, tuple) else 1
        n_batch = len(module.batch_axis)
        return (*range(n_batch), *range(ndim - n_out, ndim))
    if isinstance(module, nnx.Einsum):
        inputs, output = module.einsum_str.replace(" ", "").split("->")
        return tuple(i for i, letter in enumerate(inputs.split(",")[1]) if letter in output)
    if isinstance(module, nnx.ConvTranspose) and module.transpose_kernel:
        return (ndim - 2,)
    return (ndim - 1,)
