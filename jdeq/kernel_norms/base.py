"""Modules whose kernels are normalised once per solve: the base class, and folding."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from flax import nnx
from jax import Array

from ..norm.select import Entries
from .kernels import Kernel, module_kernels


class KernelNorm(nnx.Module):
    """Wraps a module and normalises its kernels whenever it is folded.

    The base of `WeightNorm` and `SpectralNorm`; a norm of your own defines `normalise` and, if it
    has a state, `update`, and is made known by `jdeq.register_norm`.

    `jdeq.nn.DEQ` folds all norms in its cell once per call, however deep they sit: inside the
    loop there are plain kernels. A call of the wrapper itself folds for that call.

    Args:
        module: the module. Its kernels are the `kernel` parameters of all modules in it, but not
            of those in a norm of their own; one that several modules share counts once.
        filter_out: leave these kernels alone: dotted paths of modules (`"head.out"`), module
            types, or a predicate `(path, module) -> bool`; one of them or several.

    Attributes:
        module: the module with the raw kernels.
        paths: dotted path of the module of each kernel.

    Raises:
        ValueError: there is no kernel to normalise, or `filter_out` names a path that is not
            there.

    Example:
        >>> from flax import nnx
        >>> import jax.numpy as jnp, jdeq
        >>> class Halved(jdeq.nn.KernelNorm):
        ...     def normalise(self, kernels):
        ...         return {path: kernel / 2 for path, kernel in kernels.items()}
        >>> linear = nnx.Linear(2, 2, rngs=nnx.Rngs(0), kernel_init=nnx.initializers.ones)
        >>> Halved(linear).fold().kernel[...].tolist()
        [[0.5, 0.5], [0.5, 0.5]]
    """

    def __init__(self, module: nnx.Module, *, filter_out: Entries = ()):
        kernels = module_kernels(module, KernelNorm, filter_out)
        if not kernels:
            raise ValueError(f"{type(module).__name__} has no kernel to normalise")
        self.module: Any = module
        self.paths = tuple(kernels)

    def kernels(self) -> dict[str, Kernel]:
        """The variables of the raw kernels, and their channel axes."""
        found = module_kernels(self.module, KernelNorm)
        return {path: found[path] for path in self.paths}

    def raw_kernels(self) -> dict[str, Array]:
        """The raw kernels by path."""
        return {path: kernel.variable[...] for path, kernel in self.kernels().items()}

    def normalise(self, kernels: Mapping[str, Array]) -> Mapping[str, Array]:
        """The normalised kernels by path, in shape and dtype of the raw ones."""
        raise TypeError(f"{type(self).__name__} must define normalise(kernels)")

    def update(self) -> None:
        """Brings the norm's state up to date, if it has one; comes once before each solve."""

    def fold(self) -> Any:
        """The plain module with normalised kernels; gradients reach all parameters."""
        return fold_norms(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with normalised(self) as module:
            return module(*args, **kwargs)


@contextlib.contextmanager
def normalised(module: Any) -> Iterator[Any]:
    """For one solve: updates all norms in `module` and gives it without them, as `fold_norms`.

    What the plain module writes meanwhile, counts of random numbers or statistics, is carried over
    to `module`.
    """
    if not (norms := _norms(module)):
        yield module
        return
    for norm in norms:
        norm.update()
    copy = _copy(module)
    pairs = list(zip(_variables(module), _variables(copy), strict=True))
    plain = _fold(copy)
    before = [copied.get_value() for _, copied in pairs]
    yield plain
    for (variable, copied), old in zip(pairs, before, strict=True):
        if (new := copied.get_value()) is not old:
            variable.set_value(new)


def fold_norms(module: Any) -> Any:
    """`module` without norms: a copy with the kernels that they make, or itself if it has none."""
    return _fold(_copy(module)) if _norms(module) else module


def scale_like(kernel: nnx.Variable, value: Array, kind: type[nnx.Variable]) -> nnx.Variable:
    """A variable for an array that broadcasts against a kernel, placed over devices like it."""
    metadata = kernel.get_metadata()
    names = metadata.get("out_sharding")
    if names is None:
        return kind(value)
    kept = {k: metadata[k] for k in ("mesh", "sharding_rules", "eager_sharding") if k in metadata}
    pairs = zip(value.shape, (*names, *[None] * (value.ndim - len(names))), strict=True)
    return kind(value, out_sharding=tuple(None if n == 1 else name for n, name in pairs), **kept)


def _fold(module: Any) -> Any:
    """Sets the normalised kernels and takes the norms out, in place."""
    for norm in _norms(module):
        variables = norm.kernels()
        for path, kernel in norm.normalise(norm.raw_kernels()).items():
            variables[path].variable.set_value(kernel)
    for _, node in list(nnx.iter_modules(module)):
        for name, value in list(vars(node).items()):
            if any(isinstance(leaf, KernelNorm) for leaf in jax.tree.leaves(value, is_leaf=_whole)):
                setattr(node, name, nnx.data(jax.tree.map(_unwrapped, value, is_leaf=_whole)))
    return _unwrapped(module)


def _copy(module: nnx.Module) -> nnx.Module:
    """With variables of its own, which the innermost transformation may write to."""
    return nnx.merge(*nnx.split(module), copy=True)


def _variables(module: nnx.Module) -> list[nnx.Variable]:
    return [node for _, node in nnx.iter_graph(module) if isinstance(node, nnx.Variable)]


def _norms(module: Any) -> list[KernelNorm]:
    if not isinstance(module, nnx.Module):
        return []
    return [node for _, node in nnx.iter_modules(module) if isinstance(node, KernelNorm)]


def _whole(value: Any) -> bool:
    return isinstance(value, nnx.Module)


def _unwrapped(value: Any) -> Any:
    while isinstance(value, KernelNorm):
        value = value.module
    return value
