"""One configuration for a DEQ layer, in TorchDEQ's option names."""

import argparse
import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from flax import nnx

from ._deq import schedule
from .gradients import IFT, Backward, PhantomGrad
from .nn.kernel_norm import KernelNorm
from .nn.norms import NORMS, make_norm
from .solvers import Solver
from .solvers.base import check_tau
from .solvers.registry import SOLVERS, resolve_solver


def _option(default: Any, group: str, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"group": group, "help": text})


@dataclasses.dataclass(frozen=True, kw_only=True)
class DEQConfig:
    """How a DEQ layer solves, differentiates and normalises; names and meanings of TorchDEQ.

    `DEQConfig(ift=True, f_solver="anderson", b_solver="broyden")` is the paper's
    `--ift --f_solver anderson --b_solver broyden`; `DEQConfig(grad=5, tau=0.6)` is
    `--grad 5 --tau 0.6`, and `f_max_iter=0, grad=12` backpropagates through 12 steps.

    Raises:
        ValueError, TypeError: a value out of range or an unknown name; the message names the
            option.

    Example:
        >>> import jdeq
        >>> jdeq.DEQConfig(f_solver="broyden", f_max_iter=22, grad=5, tau=0.5).backward().tau
        0.5
    """

    f_solver: str = _option("fixed_point_iter", "forward", "forward solver")
    f_max_iter: int = _option(40, "forward", "most forward iterations; 0: none, unroll from z0")
    f_tol: float = _option(1e-3, "forward", "residual below which a sample is converged")
    f_stop_mode: Literal["abs", "rel"] = _option("abs", "forward", "residual that f_tol is for")
    eval_factor: float = _option(1.0, "forward", "times f_max_iter iterations in evaluation")
    eval_f_max_iter: int = _option(0, "forward", "iterations in evaluation; 0: by eval_factor")
    ift: bool = _option(False, "backward", "implicit gradient instead of a phantom gradient")
    b_solver: str = _option("fixed_point_iter", "backward", "solver of the implicit gradient")
    b_max_iter: int = _option(40, "backward", "most iterations of it")
    b_tol: float = _option(1e-6, "backward", "its tolerance, relative to the cotangent")
    b_stop_mode: Literal["abs", "rel"] = _option("rel", "backward", "residual that b_tol is for")
    grad: int = _option(1, "backward", "steps of the phantom gradient")
    tau: float = _option(1.0, "backward", "damping of the phantom gradient's steps")
    n_states: int = _option(1, "states", "states of the solve to return, evenly spread")
    indexing: tuple[int, ...] = _option((), "states", "iterations whose states to return instead")
    gamma: float = _option(0.8, "states", "weight of a state's loss, per state before the last")
    jac_loss_weight: float = _option(0.0, "penalty", "weight of the Jacobian penalty")
    jac_loss_freq: float = _option(1.0, "penalty", "probability, per step, of applying it")
    norm_type: str = _option("none", "normalisation", "normalisation of the cell's kernels")
    norm_no_scale: bool = _option(False, "normalisation", "do not learn the scale of a kernel")
    norm_target_norm: float = _option(
        1.0, "normalisation", "norm of a kernel; weight_norm: only with norm_no_scale"
    )
    norm_clip: bool = _option(False, "normalisation", "bound the normalising factor")
    norm_clip_value: float = _option(1.0, "normalisation", "bound of the normalising factor")
    sn_n_power_iters: int = _option(
        1, "normalisation", "power iterations of spectral_norm per call in training"
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "indexing", tuple(self.indexing))
        for field in dataclasses.fields(self):
            value, choices = getattr(self, field.name), _choices(field.name)
            if choices is not None and value not in choices:
                raise ValueError(
                    f"{field.name} must be one of {', '.join(map(repr, choices))}; got {value!r}"
                )
        for name, low in _LOWEST.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} must be an int, got {value!r}")
            if value < low:
                raise ValueError(f"{name} must be >= {low}, got {value}")
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)!r}")
        check_tau(self.tau)
        if not self.jac_loss_weight >= 0:
            raise ValueError(f"jac_loss_weight must be >= 0, got {self.jac_loss_weight!r}")
        if not 0 <= self.jac_loss_freq <= 1:
            raise ValueError(f"jac_loss_freq must be in [0, 1], got {self.jac_loss_freq!r}")
        schedule(self.f_max_iter, self.n_states, self.indexing or None)

    def solver(self, *, train: bool = True) -> Solver:
        """The forward solver, with the iterations for training or for evaluation."""
        steps = self.f_max_iter
        if not train:
            steps = self.eval_f_max_iter or int(self.f_max_iter * self.eval_factor)
        options = {"max_iter": steps, "tol": self.f_tol, "stop_mode": self.f_stop_mode}
        return resolve_solver(self.f_solver, options)

    def backward(self) -> Backward:
        """`IFT` with the `b_` options if `ift`, else `PhantomGrad(grad, tau)`."""
        phantom = PhantomGrad(steps=self.grad, tau=self.tau)
        if not self.ift:
            return phantom
        return IFT(
            solver=self.b_solver,
            tol=self.b_tol,
            max_iter=self.b_max_iter,
            stop_mode=self.b_stop_mode,
            phantom=phantom,
        )

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
            for option, name in _NORM_OPTIONS.items()
            if getattr(self, name) != getattr(type(self), name)
        }
        return make_norm(self.norm_type, cell, options, required)

    def to_dict(self) -> dict[str, Any]:
        """All options as plain values, for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}

    @classmethod
    def from_dict(cls, options: Mapping[str, Any]) -> "DEQConfig":
        """The inverse of `to_dict`; an unknown option raises a `TypeError` that names it."""
        known = {f.name for f in dataclasses.fields(cls)}
        for name in options:
            if name not in known:
                raise TypeError(f"unknown DEQ option {name!r}: use {', '.join(sorted(known))}")
        return cls(**options)

    @classmethod
    def from_args(cls, namespace: argparse.Namespace) -> "DEQConfig":
        """Reads the options that `add_deq_args` put into a parser; others are left alone."""
        known = {f.name for f in dataclasses.fields(cls)}
        return cls(**{k: v for k, v in vars(namespace).items() if k in known})


_CHOICES = {
    "f_stop_mode": ("abs", "rel"),
    "b_stop_mode": ("abs", "rel"),
}
_LOWEST = {
    "f_max_iter": 0,
    "eval_f_max_iter": 0,
    "b_max_iter": 0,
    "grad": 1,
    "n_states": 1,
    "sn_n_power_iters": 1,
}
_POSITIVE = ("f_tol", "b_tol", "eval_factor", "tau", "norm_target_norm", "norm_clip_value")
_NORM_OPTIONS = {
    "learn_scale": "norm_no_scale",
    "target_norm": "norm_target_norm",
    "clip": "norm_clip",
}


def _choices(option: str) -> tuple[str, ...] | None:
    """The accepted values of an option that has a list of them."""
    if option in ("f_solver", "b_solver"):
        return tuple(SOLVERS.entries)
    if option == "norm_type":
        return ("none", *NORMS.entries)
    return _CHOICES.get(option)


def add_deq_args(
    parser: argparse.ArgumentParser, defaults: DEQConfig | None = None
) -> argparse.ArgumentParser:
    """Adds every option of `DEQConfig` to a command line, in groups.

    Args:
        parser: gets `--f_solver`, `--f_max_iter`, ...; flags for the booleans (`--ift`,
            `--no-ift`).
        defaults: values where the command line is silent.

    Returns:
        The same parser.

    Example:
        >>> import argparse, jdeq
        >>> parser = jdeq.add_deq_args(argparse.ArgumentParser())
        >>> args = parser.parse_args("--ift --f_solver anderson --b_solver broyden".split())
        >>> jdeq.DEQConfig.from_args(args).b_solver
        'broyden'
    """
    values = vars(defaults or DEQConfig())
    groups: dict[str, Any] = {}
    for field in dataclasses.fields(DEQConfig):
        title = field.metadata["group"]
        group = groups.get(title) or parser.add_argument_group(f"DEQ: {title}")
        groups[title] = group
        value, options = values[field.name], {"help": field.metadata["help"]}
        if isinstance(value, bool):
            options["action"] = argparse.BooleanOptionalAction
        elif isinstance(value, tuple):
            options |= {"type": int, "nargs": "*", "metavar": "ITERATION"}
        else:
            options |= {"type": type(value), "metavar": type(value).__name__.upper()}
        if (choices := _choices(field.name)) is not None:
            options["help"] += f": {', '.join(choices)}"
            options["metavar"] = "NAME"
        options["help"] += f" (default: {value if value != () else 'none'})"
        group.add_argument(f"--{field.name}", default=value, **options)
    return parser
