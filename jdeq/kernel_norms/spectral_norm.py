"""Spectral normalisation of every kernel of a module."""

from collections.abc import Mapping

from flax import nnx
from flax.errors import TraceContextError
from jax import Array

from .._checks import check_int
from ..norm.rescale import check_options
from ..norm.select import Entries
from ..norm.spectral import PowerVectors, spectral_norm, spectral_scales, spectral_state
from .base import KernelNorm, scale_like
from .mirror import entry_of, mirrored


class PowerIteration(nnx.Variable):
    """A singular vector as the power iteration has it: state of `SpectralNorm`, never trained."""


class SpectralNorm(KernelNorm):
    """Reparametrises the kernels M of a module as `M min(clip, g / sigma)`.

    `sigma = u^T M v` is the largest singular value of the kernel as a matrix with a row per output
    channel, as far as the power iteration has found it; `u` and `v` are constants for the gradient.
    For a convolution that matrix is not the linear map itself: its norm bounds that of the map up
    to a factor of the square root of the number of taps. Covers the kernels that
    `jdeq.nn.WeightNorm` does. A kernel of zeros stays zero and keeps a finite gradient.

    In training each call, of the wrapper or of the `jdeq.nn.DEQ` around it, first makes
    `n_power_iterations` steps and stores `u` and `v`, before the solve and never within it; like
    BatchNorm's statistics they are kept by `nnx.jit`, and lost without it unless returned. In
    evaluation (`.eval()`) and by `fold` nothing is written. `flax.nnx.SpectralNorm` overwrites the
    raw kernel at each call, so it cannot run inside a solve, and has neither scale nor clip.

    Args:
        module: the module; its `kernel` parameters are M from now on.
        learn_scale: learn `g`. Otherwise every spectral norm is `target_norm`.
        target_norm: the spectral norm of every kernel; a learned scale starts from it. None: the
            kernel's own, so that wrapping does not change the function; needs `learn_scale`.
        per_channel: learn a scale for each output channel, as TorchDEQ does, not one for the
            kernel. More freedom, but the scales are then no bound of the spectral norm.
        clip: upper bound for the factor `g / sigma`.
        n_power_iterations: steps per call in training.
        eps: kernels with a norm up to this are left as they are.
        filter_out: leave these kernels alone: dotted paths of modules (`"head.out"`), module
            types, or a predicate `(path, module) -> bool`.

    Attributes:
        module: the module with the raw kernels.
        scales: `g`, in `nnx.Dict`s that mirror the module: `scales.dense.kernel` is that of
            `module.dense.kernel`; shapes broadcast against the kernel. Empty without
            `learn_scale`.
        vectors: `u` and `v` in the same way, as `vectors.dense.kernel.u`, each a `PowerIteration`
            in float32, or float64 for a float64 kernel. They start close to the leading singular
            vectors.
        deterministic: whether the vectors are frozen; set by `.eval()`, cleared by `.train()`.

    Raises:
        ValueError: the module has no kernel to normalise, an option is out of range, or options
            contradict each other.

    Source: Miyato et al., *Spectral Normalization for GANs* (2018); TorchDEQ paper, eqs. 14-16.

    Example:
        >>> from flax import nnx
        >>> import jax.numpy as jnp, jdeq
        >>> linear = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
        >>> norm = jdeq.nn.SpectralNorm(linear, target_norm=0.9)
        >>> kernel = norm.fold().kernel
        >>> round(float(jnp.linalg.norm(kernel[...], ord=2)), 4)
        0.9
    """

    def __init__(
        self,
        module: nnx.Module,
        *,
        learn_scale: bool = True,
        target_norm: float | None = 1.0,
        per_channel: bool = False,
        clip: float | None = None,
        n_power_iterations: int = 1,
        eps: float = 1e-12,
        filter_out: Entries = (),
    ):
        check_options(target_norm=target_norm, clip=clip, eps=eps)
        check_int("n_power_iterations", n_power_iterations, low=1)
        if not learn_scale and (target_norm is None or per_channel):
            option = "target_norm=None" if target_norm is None else "per_channel=True"
            raise ValueError(f"{option} is for a learned scale, but learn_scale is False")
        super().__init__(module, filter_out=filter_out)
        self.target_norm = target_norm
        self.clip = clip
        self.n_power_iterations = n_power_iterations
        self.eps = eps
        self.deterministic = False
        kernels, values = self.kernels(), self.raw_kernels()
        state = spectral_state(
            values,
            select=lambda *_: True,
            channel_axis=lambda path, _: kernels[path].channels,
        )
        scales = {}
        if learn_scale:
            scales = spectral_scales(
                values, state, target_norm=target_norm, per_channel=per_channel
            )
        like = lambda path, value, kind: scale_like(kernels[path].variable, value, kind)
        self.scales = mirrored({path: like(path, g, nnx.Param) for path, g in scales.items()})
        self.vectors = mirrored(
            {
                path: nnx.Dict({n: like(path, x, PowerIteration) for n, x in uv._asdict().items()})
                for path, uv in state.items()
            }
        )

    def normalise(self, kernels: Mapping[str, Array]) -> Mapping[str, Array]:
        return self._normalised(kernels, 0)[0]

    def update(self) -> None:
        """Makes the power iteration's steps and stores `u` and `v`; in evaluation nothing.

        Raises:
            TypeError: the module cannot be written to, because it is closed over by a
                transformation or called inside a solve.
        """
        if self.deterministic:
            return
        _, state = self._normalised(self.raw_kernels(), self.n_power_iterations)
        try:
            for path, vectors in state.items():
                for name, value in vectors._asdict().items():
                    entry_of(self.vectors, path)[name].set_value(value)
        except TraceContextError as error:
            raise TypeError(
                "a spectral norm in training stores its power iteration, but the module is closed "
                "over by a transformation or a solve: pass it as an argument, as in "
                "nnx.jit(lambda m, x: m(x))(module, x), fold it before, or call module.eval()"
            ) from error

    def _normalised(self, kernels: Mapping[str, Array], steps: int):
        vectors = {p: entry_of(self.vectors, p) for p in self.paths}
        return spectral_norm(
            kernels,
            {p: PowerVectors(d["u"][...], d["v"][...]) for p, d in vectors.items()},
            {p: entry_of(self.scales, p)[...] for p in self.paths} if len(self.scales) else None,
            n_power_iterations=steps,
            target_norm=self.target_norm or 1.0,
            clip=self.clip,
            eps=self.eps,
        )
