"""One configuration for a DEQ layer, in TorchDEQ's option names."""

import argparse
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from ._deq import schedule
from ._info import SolverInfo
from ._pairs import format_pairs
from .backward import IFT, Backward, PhantomGrad
from .backward.registry import BACKWARDS, resolve_backward
from .kernel_norms import KernelNorm
from .kernel_norms.registry import NORMS, make_norm
from .options import Options, option, options_of
from .solvers import Solver
from .solvers.registry import SOLVERS, resolve_solver

GROUPS = {
    "forward": "forward solver",
    "backward": "backward solver, for --ift",
    "gradient": "gradient",
    "norm": "normalisation",
    "penalty": "Jacobian regularisation",
    "correction": "fixed point correction",
}
FORWARD, BACKWARD, GRADIENT, NORM, PENALTY, CORRECTION = GROUPS
REQUIRED_IF_SET = {  # what a norm must take if it is set, and its name for the user
    "learn_scale": "norm_no_scale",
    "target_norm": "norm_target_norm",
    "clip": "norm_clip",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DEQConfig(Options, what="DEQ option", groups=GROUPS):
    """How a DEQ layer solves, differentiates and normalises; names and meanings of TorchDEQ.

    `DEQConfig(ift=True, f_solver="anderson", b_solver="broyden")` is the paper's
    `--ift --f_solver anderson --b_solver broyden`; `DEQConfig(grad=5, tau=0.6)` is
    `--grad 5 --tau 0.6`, and `f_max_iter=0, grad=12` backpropagates through 12 steps.
    `python -m zoo train mdeq --help` describes each option.

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

    f_solver: str = option(
        "fixed_point_iter", "forward solver", FORWARD, choices=lambda: SOLVERS.entries
    )
    f_max_iter: int = option(40, "most forward iterations; 0: none, unroll from z0", FORWARD, low=0)
    f_tol: float = option(1e-3, "residual below which a sample is converged", FORWARD, above=0)
    f_stop_mode: Literal["abs", "rel"] = option("abs", "residual that f_tol is for", FORWARD)
    f_options: Any = option(
        (), "more options of the forward solver, such as m=5,lam=1e-4", FORWARD, pairs=True
    )
    eval_factor: float = option(1.0, "times f_max_iter iterations in evaluation", FORWARD, above=0)
    eval_f_max_iter: int = option(0, "iterations in evaluation; 0: by eval_factor", FORWARD, low=0)
    b_solver: str = option(
        "fixed_point_iter",
        "solver of the implicit gradient",
        BACKWARD,
        choices=lambda: SOLVERS.entries,
    )
    b_max_iter: int = option(40, "most iterations of it", BACKWARD, low=0)
    b_tol: float = option(1e-6, "its tolerance, relative to the cotangent", BACKWARD, above=0)
    b_stop_mode: Literal["abs", "rel"] = option("rel", "residual that b_tol is for", BACKWARD)
    b_options: Any = option(
        (), "more options of the backward solver, such as m=5,lam=1e-4", BACKWARD, pairs=True
    )
    ift: bool = option(False, "implicit gradient instead of a phantom gradient", GRADIENT)
    grad_type: str = option(
        "auto",
        "gradient by name; auto: ift or phantom, by --ift",
        GRADIENT,
        choices=lambda: ("auto", *BACKWARDS.entries),
    )
    grad: int | tuple[int, ...] = option(
        1,
        "steps of the phantom gradient; of each state, if there are several (with --ift, of each "
        "but the last)",
        GRADIENT,
        low=1,
    )
    tau: float = option(
        1.0, "damping of the phantom gradient's steps, in (0, 2]", GRADIENT, above=0, high=2
    )
    sup_gap: int = option(
        -1, "return the states after every so many phantom steps; -1: none", GRADIENT, low=-1
    )
    sup_loc: tuple[int, ...] = option(
        (), "return the states after these phantom steps", GRADIENT, low=1, metavar="STEP"
    )
    norm_type: str = option(
        "none",
        "normalisation of the cell's kernels",
        NORM,
        choices=lambda: ("none", *NORMS.entries),
        defines_parameters=True,
    )
    norm_no_scale: bool = option(
        False, "do not learn the scale of a kernel", NORM, defines_parameters=True
    )
    norm_target_norm: float = option(
        1.0, "norm of a kernel; weight_norm: only with norm_no_scale", NORM, above=0
    )
    norm_clip: bool = option(False, "bound the normalising factor", NORM)
    norm_clip_value: float = option(1.0, "bound of the normalising factor", NORM, above=0)
    sn_n_power_iters: int = option(
        1, "power iterations of spectral_norm per call in training", NORM, low=1
    )
    jac_loss_weight: float = option(0.0, "weight of the Jacobian penalty", PENALTY, low=0)
    jac_loss_freq: float = option(
        1.0, "probability, per step, of applying it", PENALTY, low=0, high=1
    )
    n_states: int = option(
        1, "states of the solve to return, evenly spread", CORRECTION, low=1, alias="n_losses"
    )
    indexing: tuple[int, ...] = option(
        (), "iterations whose states to return instead", CORRECTION, low=1, metavar="ITERATION"
    )
    core: Literal["indexing", "sliced"] = option(
        "indexing", "states of one solve, or of one after the other from there on", CORRECTION
    )
    gamma: float = option(
        0.8, "weight of a state's loss, per state before the last", CORRECTION, low=0, high=1
    )

    WITHOUT_COUNTERPART: ClassVar[Mapping[str, str]] = {  # of TorchDEQ: what to do instead
        "hook_ift": "drop it, an implicit gradient holds the memory of one call of f anyway",
        "jac_incremental": "give jac_loss a weight, that of jdeq.incremental_weight",
        "sradius_mode": "call jdeq.spectral_radius(f, z, key)",
        "no_stat": "f_solver='simple_fixed_point_iter' measures nothing on the way",
    }

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

    def backward(self, *, train: bool = True) -> Backward:
        """The gradient of `z*`, and of the sampled states: `PhantomGrad(grad, tau)`, `IFT` with
        the `b_` options, or what `grad_type` names. No states are sampled in evaluation.
        """
        if self._gradient == "phantom":
            *before, last = self.grad if isinstance(self.grad, tuple) else (self.grad,)
            return self._phantom(last, tuple(before), train)
        if self._gradient != "ift":
            return resolve_backward(self._gradient)
        steps, before = (1, self.grad) if isinstance(self.grad, tuple) else (self.grad, ())
        phantom = self._phantom(steps, before, train)
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
            if mode != "rel" or tol < resolved:
                raise ValueError(
                    f"relative residuals are resolved down to {resolved:.0e} in "
                    f"{jnp.dtype(dtype).name}: {side}_stop_mode must be 'rel' and {side}_tol "
                    f"not below that, got {mode!r} and {tol:g}"
                )

    @classmethod
    def from_dict(cls, options: Mapping[str, Any]) -> "DEQConfig":
        """The inverse of `to_dict`; an unknown option raises a `TypeError` that names it."""
        for name in options:
            if name in cls.WITHOUT_COUNTERPART:
                raise TypeError(f"jdeq has no DEQ option {name!r}: {cls.WITHOUT_COUNTERPART[name]}")
        return super().from_dict(options)

    @classmethod
    def from_args(cls, namespace: argparse.Namespace) -> "DEQConfig":
        """Reads the options that `add_deq_args`, TorchDEQ's too, put into a parser.

        Other attributes are the program's own and left alone, except that an option of TorchDEQ
        that is set and has no counterpart here raises a `TypeError`.
        """
        known, gone = options_of(cls), cls.WITHOUT_COUNTERPART
        given = vars(namespace).items()
        return cls.from_dict({k: v for k, v in given if k in known or (k in gone and v)})

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
        return resolve_solver(name, named | dict(configured) | options)
    except (TypeError, ValueError) as error:
        if not configured or options:
            raise
        raise type(error)(f"{side}_options {format_pairs(configured)!r}: {error}") from error
