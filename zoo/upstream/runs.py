"""Runs of a model that a reference folder has recorded, by the names that they have there."""

import dataclasses
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import jdeq
from zoo.errors import UserError
from zoo.upstream.reference import Reference
from zoo.upstream.torchdeq import evaluated, few_steps, folded

EVAL_TOLERANCE = 1e-3  # of the published evaluation
DAMPING = {1: 1.0}  # of phantom gradients whose name does not say it
DEFAULT_DAMPING = 0.6
NUMBER = r"(\d+(?:\.\d+)?(?:e-?\d+)?)"
GRADIENTS = rf"grads_(.+?)(?:_tau{NUMBER})?(?:_jacreg{NUMBER})?_seg(\d+)"


@dataclasses.dataclass(frozen=True)
class RecordedGradient:
    """The file `path` of gradients of the loss of one `segment` in a `run`.

    `tau` damps the run's phantom gradient, if the name says it; `jac_weight` is that of the
    Jacobian penalty in the loss.
    """

    path: pathlib.Path
    run: str
    segment: int
    tau: float | None
    jac_weight: float

    @classmethod
    def of(cls, path: pathlib.Path) -> "RecordedGradient":
        """Reads `grads_RUN[_tauT][_jacregW]_segK.npz`; raises UserError for other names."""
        match = re.fullmatch(GRADIENTS, path.stem)
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
        gradients: recorded gradients.
    """

    name: str
    train: bool
    tight: bool
    deq: Mapping[str, Any]
    solver_steps: int | None = None
    gradients: tuple[RecordedGradient, ...] = ()

    @classmethod
    def named(cls, name: str, gradients: Iterable[RecordedGradient]) -> "Run":
        """The run with this prefix; raises UserError for one that is unknown."""
        mine = tuple(g for g in gradients if g.run == name)
        make = lambda *args, **kwargs: cls(name, *args, gradients=mine, **kwargs)
        if name in ("ift", "eval"):
            return make(name == "ift", True, {"ift": True})
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
            published = {"f_max_iter": 0, "eval_f_max_iter": steps, "f_tol": 0.0}
            published |= {"f_solver": "fixed_point_iter", "f_stop_mode": "rel"}
            return make(False, False, published | _phantom(steps, 1.0), solver_steps=steps)
        raise UserError(f"io.npz: unknown run {name!r}")

    def solve(self, layer: jdeq.nn.DEQ, given: Any) -> tuple[Any, jdeq.SolverInfo]:
        """State and statistics of a layer for what it is given, found as in this run."""
        if self.solver_steps is None:
            return layer(given)
        if not self.train:
            return evaluated(layer, given, EVAL_TOLERANCE)
        phantom = jdeq.PhantomGrad(self.deq["grad"], self.deq["tau"])
        z0 = folded(layer).initial_state(given)
        return few_steps(layer.f(given), z0, self.solver_steps, phantom)


def recorded_runs(reference: Reference) -> list[Run]:
    """All runs; raises UserError for what has no run, or an unknown name."""
    io = reference.files["io"]
    names = [match[1] for name in io if (match := re.match(r"(.*)_seg0_z_out$", name))]
    gradients = [RecordedGradient.of(path) for path in sorted(reference.folder.glob("grads_*.npz"))]
    for gradient in gradients:
        if gradient.run not in names:
            raise UserError(f"{gradient.path}: no run {gradient.run!r} in io.npz")
    return [Run.named(name, gradients) for name in names]


def _phantom(steps: int, tau: float) -> dict[str, Any]:
    return {"ift": False, "grad": steps, "tau": tau}
