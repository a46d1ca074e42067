"""Weight normalisation of every kernel of a module."""

from collections.abc import Mapping

from flax import nnx
from jax import Array

from ..norm.rescale import check_options
from ..norm.select import Entries
from ..norm.weight import weight_norm, weight_scales
from .base import KernelNorm, scale_like
from .mirror import entry_of, mirrored


class WeightNorm(KernelNorm):
    """Reparametrises the kernels `v` of a module as `w = v min(clip, g / ||v||)`.

    The norm is taken over all axes but the output ones, so each output channel has its own. With
    a learnable `g`, which starts at `||v||`, wrapping does not change the function. Covers
    `Linear`, `LinearGeneral`, `Einsum`, `Conv`, `ConvTranspose`, attention projections and any
    module with a `kernel` parameter, nested ones included.

    `jdeq.nn.DEQ` folds its cell once per solve: inside the loop there are plain kernels. A call of
    the wrapper itself folds for that call. A channel of zeros stays zero and keeps a finite
    gradient. `flax.nnx.WeightNorm` overwrites the raw kernel at each call, so it cannot run inside
    a solve, and up to Flax 0.12.8 its scale is not a parameter.

    Args:
        module: the module; its `kernel` parameters are `v` from now on.
        learn_scale: learn `g`. Otherwise every norm is `target_norm`.
        target_norm: the norm of every channel without `learn_scale`; a learned scale starts at the
            kernel's own norm instead.
        clip: upper bound for the factor `g / ||v||`.
        eps: channels with a norm up to this are left as they are.
        filter_out: leave these kernels alone: dotted paths of modules (`"head.out"`), module
            types, or a predicate `(path, module) -> bool`.

    Attributes:
        module: the module with the raw kernels.
        scales: `g`, in `nnx.Dict`s that mirror the module: `scales.dense.kernel` is that of
            `module.dense.kernel`; shapes broadcast against the kernel. Empty without
            `learn_scale`.

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
        eps: float = 1e-12,
        filter_out: Entries = (),
    ):
        check_options(target_norm=target_norm, clip=clip, eps=eps)
        super().__init__(module, filter_out=filter_out)
        self.target_norm = target_norm
        self.clip = clip
        self.eps = eps
        kernels = self.kernels()
        scales = weight_scales(self.raw_kernels(), **self._which()) if learn_scale else {}
        self.scales = mirrored(
            {path: scale_like(kernels[path].variable, g, nnx.Param) for path, g in scales.items()}
        )

    def normalise(self, kernels: Mapping[str, Array]) -> Mapping[str, Array]:
        return weight_norm(
            kernels,
            {p: entry_of(self.scales, p)[...] for p in self.paths} if len(self.scales) else None,
            target_norm=self.target_norm,
            clip=self.clip,
            eps=self.eps,
            **self._which(),
        )

    def _which(self) -> dict:
        kernels = self.kernels()
        return {
            "select": lambda *_: True,
            "channel_axis": lambda path, _: kernels[path].channels,
        }
