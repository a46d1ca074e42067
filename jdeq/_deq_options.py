"""The options of a DEQ layer, under TorchDEQ's names."""

import argparse
import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Literal, Self

from .backward.registry import BACKWARDS
from .kernel_norms.registry import NORMS
from .options import Options, option, options_of
from .solvers.registry import SOLVERS

GROUPS = {
    "forward": "forward solver",
    "backward": "backward solver, for --ift",
    "gradient": "gradient",
    "norm": "normalisation",
    "penalty": "Jacobian regularisation",
    "correction": "fixed point correction",
}
FORWARD, BACKWARD, GRADIENT, NORM, PENALTY, CORRECTION = GROUPS


@dataclasses.dataclass(frozen=True, kw_only=True)
class DEQOptions(Options, what="DEQ option", groups=GROUPS):
    """What `DEQConfig` is told, each option on its own."""

    f_solver: str = option(
        "fixed_point_iter", "forward solver", FORWARD, choices=lambda: SOLVERS.entries
    )
    f_max_iter: int = option(40, "most forward iterations; 0: none, unroll from z0", FORWARD, low=0)
    f_tol: float = option(
        1e-3, "residual below which a sample is converged; 0: make all iterations", FORWARD, low=0
    )
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
    b_tol: float = option(
        1e-6, "its tolerance, relative to the cotangent; 0: make all iterations", BACKWARD, low=0
    )
    b_stop_mode: Literal["abs", "rel"] = option(
        "rel", "as in TorchDEQ; b_tol is relative to the cotangent in either mode", BACKWARD
    )
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
        "solver_kwargs": "its entries are f_options={'m': 6}, or go with a call, layer(f, z0, m=6)",
        "no_stat": "f_solver='simple_fixed_point_iter' measures nothing on the way",
    }

    @classmethod
    def check_names(cls, options: Collection[Any]) -> None:
        """Raises a `TypeError` for an unknown option; of one of TorchDEQ it says what to do."""
        for name in options:
            if name in cls.WITHOUT_COUNTERPART:
                raise TypeError(f"jdeq has no DEQ option {name!r}: {cls.WITHOUT_COUNTERPART[name]}")
        super().check_names(options)

    @classmethod
    def from_args(cls, namespace: argparse.Namespace) -> Self:
        """Reads the options that `add_deq_args`, TorchDEQ's too, put into a parser.

        Other attributes are the program's own and left alone, except that an option of TorchDEQ
        that is set and has no counterpart here raises a `TypeError`.
        """
        known, gone = options_of(cls), cls.WITHOUT_COUNTERPART
        given = vars(namespace).items()
        return cls.from_dict({k: v for k, v in given if k in known or (k in gone and v)})
