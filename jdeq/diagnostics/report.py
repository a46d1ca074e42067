"""What `diagnose` found."""

from typing import NamedTuple

import numpy as np

from .._info import Status
from .orbit import Behaviour
from .trials import PLAIN, Trial

NEARLY_SINGULAR = 1e-3  # of the smallest singular value of I - J, relative to max(1, ||J||)
ROWS = 12  # most samples in a printed table


class Diagnosis(NamedTuple):
    """Per-sample findings, NumPy arrays of the batch shape. Prints as a table with advice.

    Attributes:
        status, residual: of the solve from `z0`, by `solver` or, where that did not converge, by
            one that did; the residual is relative.
        lipschitz: `||J||_2`, from below, with `J = df/dz` at the state found.
        spectral_radius: largest modulus of an eigenvalue of J.
        smallest_singular_value: of `I - J`, from above. The implicit gradient amplifies up to
            1 / this; near 0 there is a direction along which the solution is not determined.
        distance_to_one: smallest `|1 - l|` over the eigenvalues `l` of J that were seen.
        max_tau: damped iteration contracts near the solution iff `0 < tau < max_tau`; 0 if no
            damping helps, at most 2.
        behaviour: of plain iteration, a `Behaviour`.
        rate: factor by which the moves of plain iteration change, per iteration, in the end.
        fixed_points: how many different ones the starts led to.
        coupled: whether this sample's `f` changes when other samples do.
        trials: by the name of a solver, how it did from `z0`: `converged` by sample and `nfe`, its
            evaluations of `f` for the whole batch.
    """

    status: np.ndarray
    residual: np.ndarray
    lipschitz: np.ndarray
    spectral_radius: np.ndarray
    smallest_singular_value: np.ndarray
    distance_to_one: np.ndarray
    max_tau: np.ndarray
    behaviour: np.ndarray
    rate: np.ndarray
    fixed_points: np.ndarray
    coupled: np.ndarray
    trials: dict[str, Trial]

    @property
    def nearly_singular(self) -> np.ndarray:
        """Whether `I - J` is, to a thousandth of its size."""
        return self.smallest_singular_value < NEARLY_SINGULAR * np.maximum(1, self.lipschitz)

    @property
    def advice(self) -> tuple[str, ...]:
        """What to do, in words; each sentence says how many samples it is for."""
        solved = self.status == Status.CONVERGED
        restless = solved & (self.behaviour != Behaviour.CONTRACTS)
        tamed = restless & (self.max_tau > 0)
        jumps = tamed & (self.behaviour == Behaviour.OSCILLATES)
        taus = 0.9 * self.max_tau[tamed & np.isfinite(self.max_tau)]
        tau = f"{np.min(taus, initial=1.0):.2g}"
        smallest = f"{np.min(self.smallest_singular_value, initial=np.inf):.1e}"
        findings = (
            (
                self.coupled,
                "f couples samples (BatchNorm in training mode?), so that an answer depends on its "
                "batch; use running statistics, or statistics computed once before the solve",
            ),
            (jumps, f"plain iteration jumps between two states: damp with tau={tau}"),
            (
                tamed & ~jumps,
                f"plain iteration does not settle: damp with tau={tau}, or "
                f"use {self._arriving(tamed & ~jumps)}",
            ),
            (
                restless & ~tamed,
                "plain iteration fails and no damping cures it (an eigenvalue of J has real part "
                f">= 1): use {self._arriving(restless & ~tamed)}, or normalise the weights to make "
                "f contract",
            ),
            (
                self.nearly_singular,
                f"a direction exists along which I - J is singular or nearly so (smallest singular "
                f"value {smallest}): the solution is hardly determined there, gradients are "
                "amplified; normalise the weights, or remove the direction from the state (if f "
                "hands on a mean, as pre-norm residual blocks do, subtract it in f)",
            ),
            (
                self.fixed_points > 1,
                "different starts reach different fixed points: keep z0 fixed, or train with mixed "
                "initialisation and random iteration counts for path independence",
            ),
            (
                ~solved,
                f"{', '.join(self.trials)} did not converge: f may have no fixed point, or none "
                "near z0; normalise the weights to make f contract, start elsewhere, raise "
                "max_iter or loosen tol",
            ),
        )
        said = [f"{np.sum(who)} of {who.size}: {what}" for who, what in findings if np.any(who)]
        return tuple(said) or ("f contracts, nothing to improve",)

    def _arriving(self, who: np.ndarray) -> str:
        """The solvers, plain iteration apart, that solve most of these samples; cheapest first."""
        solved = {name: int(np.sum(t.converged & who)) for name, t in self.trials.items()}
        solved.pop(PLAIN, None)
        most = max(solved.values(), default=0)
        best = [name for name in solved if solved[name] == most > 0]
        best.sort(key=lambda name: int(self.trials[name].nfe))
        few = "" if most == np.sum(who) else f", which solves {most} of them"
        return " or ".join(f"{name} ({self._cost(name)})" for name in best) + few

    def _cost(self, name: str) -> str:
        return f"{self.trials[name].nfe} evaluations of f"

    def _tried(self) -> str:
        parts = [
            f"{name} {np.sum(trial.converged)} of {trial.converged.size} ({self._cost(name)})"
            for name, trial in self.trials.items()
        ]
        return f"solved from z0: {', '.join(parts)}"

    def __repr__(self) -> str:
        head = (
            f"{'sample':>8} {'status':>10} {'residual':>9} {'|J|_2':>8} {'radius':>8} "
            f"{'s_min(I-J)':>10} {'max tau':>8} {'plain':>10} {'rate':>7} {'found':>5}"
        )
        rows = [head]
        for index in list(np.ndindex(self.status.shape))[:ROWS]:
            at = lambda field, index=index: field[index]
            name = ",".join(map(str, index)) or "-"
            rows.append(
                f"{name:>8} {Status(int(at(self.status))).name:>10} {at(self.residual):>9.1e} "
                f"{at(self.lipschitz):>8.3g} {at(self.spectral_radius):>8.3g} "
                f"{at(self.smallest_singular_value):>10.2e} {at(self.max_tau):>8.3g} "
                f"{Behaviour(int(at(self.behaviour))).name.lower():>10} {at(self.rate):>7.3g} "
                f"{at(self.fixed_points):>5}"
            )
        if self.status.size > ROWS:
            rows.append(f"{'...':>8} and {self.status.size - ROWS} more")
        return "\n".join([*rows, self._tried(), *(f"- {sentence}" for sentence in self.advice)])
