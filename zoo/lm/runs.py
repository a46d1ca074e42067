"""The recorded runs of a reference folder, by the names that they have there."""

import dataclasses
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from zoo.errors import UserError

EVAL_TOLERANCE = 1e-3  # of the published evaluation
DAMPING = {1: 1.0}  # of phantom gradients whose name does not say it
DEFAULT_DAMPING = 0.6


@dataclasses.dataclass(frozen=True)
class Gradient:
    """A file of gradients of one segment's loss.

    Attributes:
        path: the file.
        run: which run they are of.
        segment: of which segment.
        tau: damping of the run's phantom gradient, if the name says it.
        jac_weight: weight of the Jacobian penalty in the loss.
    """

    path: pathlib.Path
    run: str
    segment: int
    tau: float | None
    jac_weight: float

    @classmethod
    def of(cls, path: pathlib.Path) -> "Gradient":
        """Reads `grads_RUN[_tauT][_jacregW]_segK.npz`; raises UserError for other names."""
        number = r"(\d+(?:\.\d+)?(?:e-?\d+)?)"
        pattern = rf"grads_(.+?)(?:_tau{number})?(?:_jacreg{number})?_seg(\d+)"
        match = re.fullmatch(pattern, path.stem)
        if match is None:
            raise UserError(f"{path}: expected a name like grads_RUN_segK.npz")
        run, tau, weight, segment = match.groups()
        return cls(path, run, int(segment), float(tau) if tau else None, float(weight or 0))


@dataclasses.dataclass(frozen=True)
class Run:
    """How the equilibrium was found and differentiated.

    Attributes:
        name: prefix of its arrays.
        train: in training mode.
        tight: the equilibrium was solved for, tightly, otherwise a few steps were made.
        deq: DEQ options.
        solver_steps: evaluations by TorchDEQ's solver, before the steps with gradient; None: the
            DEQ options say everything.
        tolerance: relative residual at which the solver stops, all samples at once.
        gradients: recorded gradients.
    """

    name: str
    train: bool
    tight: bool
    deq: Mapping[str, Any]
    solver_steps: int | None = None
    tolerance: float = 0.0
    gradients: tuple[Gradient, ...] = ()

    @classmethod
    def named(cls, name: str, gradients: Iterable[Gradient]) -> "Run":
        """The run with this prefix; raises UserError for one that is unknown."""
        mine = tuple(g for g in gradients if g.run == name)
        make = lambda *args, **kwargs: cls(name, *args, gradients=mine, **kwargs)
        if name == "ift":
            return make(True, True, {"ift": True})
        if name == "eval":
            return make(False, True, {"ift": True})
        if m := re.fullmatch(r"unroll(\d+)", name):
            return make(True, False, _phantom(int(m[1]), 1.0) | {"f_max_iter": 0})
        if m := re.fullmatch(r"phantom(\d+)", name):
            steps, said = int(m[1]), {g.tau for g in mine if g.tau is not None}
            tau = said.pop() if said else DAMPING.get(steps, DEFAULT_DAMPING)
            return make(True, True, _phantom(steps, tau))
        if m := re.fullmatch(r"solve(\d+)_(\d+)step", name):
            return make(True, False, _phantom(int(m[2]), 1.0), solver_steps=int(m[1]))
        if m := re.fullmatch(r"eval(\d+)", name):
            steps = int(m[1])
            return make(False, False, {}, solver_steps=steps, tolerance=EVAL_TOLERANCE)
        raise UserError(f"io.npz: unknown run {name!r}")


def _phantom(steps: int, tau: float) -> dict[str, Any]:
    return {"ift": False, "grad": steps, "tau": tau}
