"""Weight normalisation of every kernel of a module."""

from collections.abc import Callable, Iterable
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

from .._space import accumulator

Filter = Callable[[str, nnx.Module], bool]


class WeightNorm(nnx.Module):
    """Reparametrises the kernels `v` of a module as `w = g v / ||v||`.

    The norm is taken over all axes but the output ones, so each output channel has its own. With
    a learnable `g`, which starts at `||v||`, wrapping does not change the function. Covers
    `Linear`, `LinearGeneral`, `Einsum`, `Conv`, `ConvTranspose`, attention projections and any
    module with a `kernel` parameter, nested ones included.

    `jdeq.nn.DEQ` folds its cell once per solve: inside the loop there are plain kernels. A call of
    the wrapper itself folds for that call. A channel of zeros stays zero and keeps a finite
    gradient.

    Args:
        module: the module; its `kernel` parameters are `v` from now on.
        learn_scale: learn `g`. Otherwise every norm is `target_norm`.
        target_norm: the norm of every channel without `learn_scale`; a learned scale starts at the
            kernel's own norm instead.
        clip: upper bound for the factor `g / ||v||`.
        filter_out: leave these kernels alone: dotted paths of modules (`"head.out"`), module
            types, or a predicate `(path, module) -> bool`.

    Attributes:
        module: the module with the raw kernels.
        scales: `nnx.Dict` of `g` by the dotted path of the kernel's module; shapes broadcast
            against the kernel. Empty without `learn_scale`.

    Raises:
        ValueError: the module has no kernel to normalise, or an option is out of range.

    Source: Salimans & Kingma, *Weight Normalization* (2016); TorchDEQ paper, eqs. 13, 15, 16.

    Example:
        >>> from flax import nnx
        >>> import jax.numpy as jnp, jdeq
        >>> linear = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
        >>> norm = jdeq.nn.WeightNorm(linear, learn_scale=False, target_norm=0.5)
        >>> kernel = norm.fold().kernel
        >>> bool(jnp.allclose(jnp.linalg.norm(kernel[...], axis=0), 0.5))
        True
    """

    def __init__(
        self,
        module: nnx.Module,
        *,
        learn_scale: bool = True,
        target_norm: float = 1.0,
        clip: float | None = None,
        filter_out: str | type | Filter | Iterable[str | type | Filter] = (),
    ):
        if not target_norm > 0:
            raise ValueError(f"target_norm must be > 0, got {target_norm!r}")
        if clip is not None and not clip > 0:
            raise ValueError(f"clip must be > 0, got {clip!r}")
        left_out = _predicate(filter_out)
        kernels = {p: m for p, m in _kernel_modules(module) if not left_out(p, m)}
        if not kernels:
            raise ValueError(f"{type(module).__name__} has no kernel to normalise")
        self.module: Any = module
        self.paths = tuple(kernels)
        self.target_norm = target_norm
        self.clip = clip
        self.scales = nnx.Dict(
            {p: nnx.Param(_norm(m.kernel[...], _output_axes(m))) for p, m in kernels.items()}
            if learn_scale
            else {}
        )

    def fold(self) -> Any:
        """The plain module with normalised kernels; gradients reach `v` and `g`."""
        folded = nnx.merge(*nnx.split(self.module), copy=True)
        for path, module in _kernel_modules(folded):
            if path in self.paths:
                v = module.kernel[...]
                module.kernel.set_value(v * self._factor(path, v, _output_axes(module)))
        return folded

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fold()(*args, **kwargs)

    def _factor(self, path: str, v: Array, output_axes: tuple[int, ...]) -> Array:
        norm = _norm(v, output_axes)
        g = self.scales[path][...] if self.scales else jnp.full_like(norm, self.target_norm)
        factor = jnp.where(norm > 0, g / jnp.where(norm > 0, norm, 1), 1)
        return factor if self.clip is None else jnp.minimum(factor, self.clip)


def _norm(kernel: Array, output_axes: tuple[int, ...]) -> Array:
    """2-norm over the other axes, which stay as axes of length 1."""
    axes = tuple(i for i in range(kernel.ndim) if i not in output_axes)
    square = jnp.sum(jnp.square(kernel.astype(accumulator(kernel))), axes, keepdims=True)
    root = jnp.where(square > 0, lax.sqrt(jnp.where(square > 0, square, 1)), 0)
    return root.astype(kernel.dtype)


def _kernel_modules(module: nnx.Module) -> list[tuple[str, Any]]:
    """Dotted path and module of everything that has a `kernel` parameter."""
    return [
        (".".join(map(str, path)), node)
        for path, node in nnx.iter_modules(module)
        if isinstance(getattr(node, "kernel", None), nnx.Param)
    ]


def _output_axes(module: Any) -> tuple[int, ...]:
    """The axes of a module's kernel that count output channels."""
    ndim = module.kernel[...].ndim
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


def _predicate(filter_out: Any) -> Filter:
    if isinstance(filter_out, str | type) or callable(filter_out):
        filter_out = (filter_out,)
    filters = tuple(filter_out)

    def left_out(path: str, module: nnx.Module) -> bool:
        for entry in filters:
            if isinstance(entry, str):
                hit = path == entry or path.startswith(entry + ".")
            elif isinstance(entry, type):
                hit = isinstance(module, entry)
            else:
                hit = entry(path, module)
            if hit:
                return True
        return False

    return left_out
