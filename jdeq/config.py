"""One configuration for a DEQ layer, in TorchDEQ's option names."""

import argparse
import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from ._deq import schedule
from ._named import suggest
from ._options import check, choices, configured_solver, option, parse_pairs
from .gradients import IFT, Backward, PhantomGrad
from .gradients.registry import resolve_backward
from .nn.norms import configured_norm
from .solvers import Solver
from .solvers.base import check_tau

FORWARD, BACKWARD, GRADIENT = "forward solver", "backward solver, for --ift", "gradient"
CORRECTION, PENALTY = "fixed point correction", "Jacobian regularisation"
NORM = "normalisation"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DEQConfig:
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

    f_solver: str = option("fixed_point_iter", FORWARD, "forward solver")
    f_max_iter: int = option(40, FORWARD, "most forward iterations; 0: none, unroll from z0", low=0)
    f_tol: float = option(1e-3, FORWARD, "residual below which a sample is converged", low=0)
    f_stop_mode: Literal["abs", "rel"] = option("abs", FORWARD, "residual that f_tol is for")
    f_options: Any = option((), FORWARD, "more options of the forward solver, such as m=5,lam=1e-4")
    eval_factor: float = option(1.0, FORWARD, "times f_max_iter iterations in evaluation", low=0)
    eval_f_max_iter: int = option(0, FORWARD, "iterations in evaluation; 0: by eval_factor", low=0)
    b_solver: str = option("fixed_point_iter", BACKWARD, "solver of the implicit gradient")
    b_max_iter: int = option(40, BACKWARD, "most iterations of it", low=0)
    b_tol: float = option(1e-6, BACKWARD, "its tolerance, relative to the cotangent", low=0)
    b_stop_mode: Literal["abs", "rel"] = option("rel", BACKWARD, "residual that b_tol is for")
    b_options: Any = option(
        (), BACKWARD, "more options of the backward solver, such as m=5,lam=1e-4"
    )
    ift: bool = option(False, GRADIENT, "implicit gradient instead of a phantom gradient")
    grad_type: str = option("auto", GRADIENT, "gradient by name; auto: ift or phantom, by --ift")
    grad: int | tuple[int, ...] = option(
        1,
        GRADIENT,
        "steps of the phantom gradient; of each state, if there are several (with --ift, of each "
        "but the last)",
        low=1,
        nargs="+",
    )
    tau: float = option(1.0, GRADIENT, "damping of the phantom gradient's steps, in (0, 2]")
    sup_gap: int = option(
        -1, GRADIENT, "return the states after every so many phantom steps; -1: none", low=-1
    )
    sup_loc: tuple[int, ...] = option(
        (), GRADIENT, "return the states after these phantom steps", metavar="STEP"
    )
    norm_type: str = option("none", NORM, "normalisation of the cell's kernels")
    norm_no_scale: bool = option(False, NORM, "do not learn the scale of a kernel")
    norm_target_norm: float = option(
        1.0, NORM, "norm of a kernel; weight_norm: only with norm_no_scale", low=0
    )
    norm_clip: bool = option(False, NORM, "bound the normalising factor")
    norm_clip_value: float = option(1.0, NORM, "bound of the normalising factor", low=0)
    sn_n_power_iters: int = option(
        1, NORM, "power iterations of spectral_norm per call in training", low=1
    )
    jac_loss_weight: float = option(0.0, PENALTY, "weight of the Jacobian penalty")
    jac_loss_freq: float = option(1.0, PENALTY, "probability, per step, of applying it")
    n_states: int = option(
        1, CORRECTION, "states of the solve to return, evenly spread", low=1, alias="n_losses"
    )
    indexing: tuple[int, ...] = option(
        (), CORRECTION, "iterations whose states to return instead", metavar="ITERATION"
    )
    core: Literal["indexing", "sliced"] = option(
        "indexing", CORRECTION, "states of one solve, or of one after the other from there on"
    )
    gamma: float = option(0.8, CORRECTION, "weight of a state's loss, per state before the last")

    def __post_init__(self) -> None:
        for name in ("f_options", "b_options"):
            object.__setattr__(self, name, parse_pairs(name, getattr(self, name)))
        for name in ("indexing", "sup_loc", "grad"):
            value = getattr(self, name)
            if isinstance(value, list | tuple):
                value = value[0] if name == "grad" and len(value) == 1 else tuple(value)
            object.__setattr__(self, name, value)
        check(self, choices())
        check_tau(self.tau)
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma must be in [0, 1], got {self.gamma!r}")
        if not self.jac_loss_weight >= 0:
            raise ValueError(f"jac_loss_weight must be >= 0, got {self.jac_loss_weight!r}")
        if not 0 <= self.jac_loss_freq <= 1:
            raise ValueError(f"jac_loss_freq must be in [0, 1], got {self.jac_loss_freq!r}")
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
        return configured_solver("f", self.f_solver, named, self.f_options, options)

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
        return configured_solver("b", self.b_solver, named, self.b_options, {})

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
        return configured_norm(self, cell)

    def to_dict(self) -> dict[str, Any]:
        """All options as plain values, for JSON."""
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}
        return plain | {"f_options": dict(self.f_options), "b_options": dict(self.b_options)}

    @classmethod
    def from_dict(cls, options: Mapping[str, Any]) -> "DEQConfig":
        """The inverse of `to_dict`; an unknown option raises a `TypeError` that names it."""
        known = [f.name for f in dataclasses.fields(cls)]
        for name in options:
            if name in _GONE:
                raise TypeError(f"jdeq has no DEQ option {name!r}: {_GONE[name]}")
            if name not in known:
                raise TypeError(
                    f"unknown DEQ option {name!r}{suggest(str(name), known)}: "
                    f"use {', '.join(sorted(known))}"
                )
        return cls(**options)

    @classmethod
    def from_args(cls, namespace: argparse.Namespace) -> "DEQConfig":
        """Reads the options that `add_deq_args`, TorchDEQ's too, put into a parser.

        Other attributes are the program's own and left alone, except that an option of TorchDEQ
        that is set and has no counterpart here raises a `TypeError`.
        """
        given, known = vars(namespace), [f.name for f in dataclasses.fields(cls)]
        return cls.from_dict({k: v for k, v in given.items() if k in known or (k in _GONE and v)})

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


_GONE = {  # options of TorchDEQ without a counterpart: what to do instead
    "hook_ift": "drop it, an implicit gradient holds the memory of one call of f anyway",
    "jac_incremental": "give jac_loss a weight, that of jdeq.incremental_weight",
    "sradius_mode": "call jdeq.spectral_radius(f, z, key)",
    "no_stat": "f_solver='simple_fixed_point_iter' measures nothing on the way",
}
