"""One configuration for a DEQ layer, in TorchDEQ's option names."""

import argparse
import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from ._deq import schedule
from ._deq_options import DEQOptions
from ._info import SolverInfo
from ._pairs import format_pairs
from .backward import IFT, Backward, PhantomGrad
from .backward.registry import resolve_backward
from .kernel_norms import KernelNorm
from .kernel_norms.registry import make_norm
from .solvers import Solver
from .solvers.registry import resolve_solver

REQUIRED_IF_SET = {  # what a norm must take if it is set, and its name for the user
    "learn_scale": "norm_no_scale",
    "target_norm": "norm_target_norm",
    "clip": "norm_clip",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DEQConfig(DEQOptions):
    """How a DEQ layer solves, differentiates and normalises; names and meanings of TorchDEQ.

    `DEQConfig(ift=True, f_solver="anderson", b_solver="broyden")` is the paper's
    `--ift --f_solver anderson --b_solver broyden`; `DEQConfig(grad=5, tau=0.6)` is
    `--grad 5 --tau 0.6`, and `f_max_iter=0, grad=12` backpropagates through 12 steps.
    As there, phantom steps are made in training and not in evaluation; a model whose solver makes
    no iterations in evaluation either (`f_max_iter=0`, no `eval_f_max_iter`), of which TorchDEQ
    returns the start state, makes them there too. `python -m zoo train mdeq --help` describes each
    option.

    Coming from TorchDEQ: `core` is "indexing" unless you say "sliced", `norm_type` "none",
    `jac_loss_freq` 1, and `b_stop_mode` "rel"; not there are `hook_ift` (memory is that of one call
    of `f` anyway), `jac_incremental` (give `jac_loss` a `jdeq.incremental_weight`), `sradius_mode`
    (call `jdeq.spectral_radius`) and `no_stat` (`f_solver="simple_fixed_point_iter"`).
    `solver_kwargs` are `f_options`, Broyden's `l_thres` is `memory`.

    Raises:
        ValueError, TypeError: a value out of range, an unknown name, options that exclude each
            other; the message names the option.

    Example:
        >>> import jdeq
        >>> jdeq.DEQConfig(f_solver="broyden", f_max_iter=22, grad=5, tau=0.5).backward().tau
        0.5
        >>> jdeq.DEQConfig(f_solver="anderson", f_options="m=3,lam=1e-4").solver().m
        3
    """

    def __new__(cls, *positional: Any, **options: Any) -> Self:
        if positional:
            raise TypeError(
                "DEQConfig takes its options by name: of a dict or of parsed arguments, "
                "DEQConfig.make(args) is made"
            )
        return super().__new__(cls, **options)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_gradient()
        for make in (self.solver, self._backward_solver, self.backward):
            make()  # raises for what does not go together

    def _check_gradient(self) -> None:
        if self.ift and self.grad_type not in ("auto", "ift"):
            raise ValueError(f"ift and grad_type={self.grad_type!r} exclude each other")
        if self._gradient != "phantom" and (self.sup_gap > 0 or self.sup_loc):
            raise ValueError(
                f"sup_gap and sup_loc sample the phantom gradient's steps, not {self._gradient}"
            )
        before = len(schedule(self.f_max_iter, self.n_states, self.indexing or None))
        wanted = before + (self._gradient == "phantom")
        if isinstance(self.grad, tuple) and len(self.grad) != wanted:
            raise ValueError(f"grad must be one number, or {wanted} for these states: {self.grad}")

    @property
    def _gradient(self) -> str:
        return ("ift" if self.ift else "phantom") if self.grad_type == "auto" else self.grad_type

    def solver(self, *, train: bool = True, **options: Any) -> Solver:
        """The forward solver, with the iterations for training or for evaluation.

        Args:
            train: which.
            **options: of the solver, instead of the configured ones.

        Raises:
            TypeError, ValueError: the solver does not take an option.
        """
        steps = self.f_max_iter
        if not train:
            steps = self.eval_f_max_iter or int(self.f_max_iter * self.eval_factor)
        named = {"max_iter": steps, "tol": self.f_tol, "stop_mode": self.f_stop_mode}
        return _configured_solver("f", self.f_solver, named, self.f_options, options)

    def backward(self, *, train: bool = True, max_iter: int | None = None) -> Backward:
        """The gradient of `z*`, and of the sampled states: `PhantomGrad(grad, tau)`, `IFT` with
        the `b_` options, or what `grad_type` names.

        In evaluation no states are sampled, and phantom steps, which would change the state, are
        not made: should a gradient be taken there, it is the implicit one. Where the solver makes
        no iterations in evaluation either, the steps are the model, and made.

        Args:
            train: for training or for evaluation.
            max_iter: iterations of the solver, instead of the configured ones.
        """
        if max_iter is None:
            max_iter = self.solver(train=train).max_iter
        if self._gradient == "phantom" and (train or max_iter == 0):
            *before, last = self.grad if isinstance(self.grad, tuple) else (self.grad,)
            return self._phantom(last, tuple(before), train)
        if self._gradient not in ("ift", "phantom"):
            return resolve_backward(self._gradient)
        steps, before = (1, self.grad) if isinstance(self.grad, tuple) else (self.grad, ())
        phantom = self._phantom(steps, before, train) if self._gradient == "ift" else PhantomGrad(1)
        return IFT(solver=self._backward_solver(), phantom=phantom)

    def _backward_solver(self) -> Solver:
        named = {"max_iter": self.b_max_iter, "tol": self.b_tol, "stop_mode": self.b_stop_mode}
        return _configured_solver("b", self.b_solver, named, self.b_options, {})

    def _phantom(self, steps: int, before: tuple[int, ...], train: bool) -> PhantomGrad:
        if not train:
            return PhantomGrad(steps=steps, tau=self.tau)
        gap = self.sup_gap if self.sup_gap > 0 else None
        return PhantomGrad(steps, self.tau, gap, self.sup_loc or None, before or None)

    def norm(self, cell: Any) -> Any:
        """`cell` with its kernels normalised as the `norm_` options say.

        A cell that is a `jdeq.nn.KernelNorm` already stays as it is.

        Raises:
            TypeError: the cell is not an NNX module, or a registered norm does not take an option
                that is set.
            ValueError: the cell has no kernel.
        """
        if self.norm_type == "none" or isinstance(cell, KernelNorm):
            return cell
        if not isinstance(cell, nnx.Module):
            raise TypeError(f"{self.norm_type} needs a cell that is an nnx.Module, got {cell!r}")
        options = {
            "learn_scale": not self.norm_no_scale,
            "target_norm": self.norm_target_norm,
            "clip": self.norm_clip_value if self.norm_clip else None,
            "n_power_iterations": self.sn_n_power_iters,
        }
        required = {
            option: f"{name}={getattr(self, name)!r}"
            for option, name in REQUIRED_IF_SET.items()
            if getattr(self, name) != getattr(type(self), name)
        }
        return make_norm(self.norm_type, cell, options, required)

    def without_solver(self) -> "DEQConfig":
        """Applies the cell once, normalised as it is here, and differentiates that."""
        return DEQConfig(f_max_iter=0, grad=1, **self.part("norm"))

    @property
    def criterion(self) -> tuple[str, float]:
        """When a sample of the forward solve is converged: which residual, below what."""
        return self.f_stop_mode, self.f_tol

    def trace(self, info: SolverInfo) -> Array:
        """The residual that `f_tol` is for, after each iteration: (B, max_iter)."""
        return info.rel_trace if self.f_stop_mode == "rel" else info.abs_trace

    def check_dtype(self, dtype: DTypeLike) -> None:
        """Checks that states of this dtype can meet the tolerances.

        Raises:
            ValueError: they cannot; the message says what would do.
        """
        resolved = float(jnp.finfo(dtype).eps)
        solves = [("f", self.f_stop_mode, self.f_tol)] if self.f_max_iter else []
        if self._gradient == "ift":
            solves.append(("b", self.b_stop_mode, self.b_tol))
        for side, mode, tol in solves:
            if tol and (mode != "rel" or tol < resolved):
                raise ValueError(
                    f"relative residuals are resolved down to {resolved:.0e} in "
                    f"{jnp.dtype(dtype).name}: {side}_stop_mode must be 'rel' and {side}_tol "
                    f"not below that, got {mode!r} and {tol:g}"
                )

    @classmethod
    def make(
        cls,
        config: "DEQConfig | argparse.Namespace | Mapping[str, Any] | None" = None,
        **options: Any,
    ) -> "DEQConfig":
        """A configuration from any of these, which stays as it is, with some options changed.

        Raises:
            TypeError: an unknown option, or something else as `config`.
        """
        if isinstance(config, argparse.Namespace):
            config = cls.from_args(config)
        elif config is not None and not isinstance(config, DEQConfig | Mapping):
            raise TypeError(
                f"config must be a DEQConfig, a dict or an argparse.Namespace, got {config!r}"
            )
        base = vars(config) if isinstance(config, DEQConfig) else config or {}
        return cls.from_dict({**base, **options})


def _configured_solver(
    side: str, name: str, named: dict[str, Any], configured: Any, options: dict[str, Any]
) -> Solver:
    """The solver of one side, "f" or "b"; a mistake in its `_options` is said to be there."""
    for key, _ in configured:
        if key in named:
            raise ValueError(f"{side}_options: set {key} by {side}_{key}")
    try:
        return resolve_solver(name, named | dict(configured) | options, affine=side == "b")
    except (TypeError, ValueError) as error:
        if not configured or options:
            raise
        raise type(error)(f"{side}_options {format_pairs(configured)!r}: {error}") from error
