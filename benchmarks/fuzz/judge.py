"""The judge of forward solves, in float64 and in units of each problem's scale.

With F = f(u) - u as NumPy has it and `claim` what the tolerance says of |F|, `tol` or `tol |f(u)|`,
f as computed is off by at most

    rho(u) = eps |f(u)| + 32 eps_w (|u| + |f(u)| + | |W| |u| | + |b|) + what underflows,

where `eps` is the state's, and `eps_w` that of the dtype f is computed in. A state that says
CONVERGED is at fault unless

    |F| <= 1.1 claim + 4 rho                                            (its residual), and
    |u - u*| <= K |(I - J)^-1| (claim at u* + rho(u*)),  K = 4          (its distance).

The second follows from the first. |u - u*| <= |(I - J)^-1| |F|, and in relative mode
|f(u)| <= |u*| + L |u - u*|: while `cond tol = |(I - J)^-1| (1 + L) tol` is below 1/4, a factor of 2
is enough, and K has another 2 for the curvature. Beyond that the tolerance says nothing of the
distance; a state that has run away is told by `K cond tol` times the larger of |u*| and |u0|. Where
a root's surroundings (`gap`) are smaller than that, K `gap` is what counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from jdeq import Status

from .formulas import exactly, wide_of

if TYPE_CHECKING:
    from .forward import Case, Outcome

K = 4.0
WEIGHTS = 32
VERDICTS = (
    "right",
    "unsolved",
    "not judged",
    "a: no solution",
    "b: residual",
    "b: distance",
    "c: not finite",
)
RIGHT, UNSOLVED, NOT_JUDGED, NO_SOLUTION, RESIDUAL, DISTANCE, NOT_FINITE = range(len(VERDICTS))
FAULTS = (NO_SOLUTION, RESIDUAL, DISTANCE, NOT_FINITE)


def norm(x: np.ndarray) -> np.ndarray:
    """2-norm over the last axis, of squares that do not overflow."""
    with np.errstate(all="ignore"):
        size = np.abs(x).max(-1)
        usable = np.where((size > 0) & np.isfinite(size), size, 1)
        return usable * np.sqrt(((x / usable[..., None]) ** 2).sum(-1))


def rounding(case: Case, u: np.ndarray, fu: np.ndarray) -> np.ndarray:
    """rho(u)."""
    dtype = jnp.finfo(case.program.dtype)
    eps, eps_wide = float(dtype.eps), float(jnp.finfo(wide_of(case.program.dtype)).eps)
    with np.errstate(all="ignore"):
        products = norm((np.abs(case.p["w"]) * np.abs(u)[:, None, :]).sum(-1))
        terms = norm(u) + norm(fu) + products + norm(case.p["b"])
        underflow = 4 * u.shape[1] * float(dtype.smallest_normal) / case.scale[:, 0]
        return eps * norm(fu) + WEIGHTS * eps_wide * terms + underflow


def claim(case: Case, fu: np.ndarray) -> np.ndarray:
    relative = case.program.mode == "rel"
    return case.tol * norm(fu) if relative else case.tol / case.scale[:, 0]


def _claimed(case: Case, u: np.ndarray, fu: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The claim; of a solution 0 in relative mode, that the error is `tol` times the start's."""
    roots = case.answer.roots
    at_zero = roots is not None and case.program.mode == "rel" and not roots.any()
    return case.tol * start if at_zero else claim(case, fu)


def judge(case: Case, outcome: Outcome) -> tuple[np.ndarray, np.ndarray]:
    """A verdict per sample, and by what factor of its bound the state is off."""
    converged = outcome.status == Status.CONVERGED
    u, u0 = outcome.z / case.scale, case.z0 / case.scale
    fu, f0 = (exactly(case.family.formula, case.p, x) for x in (u, u0))
    with np.errstate(all="ignore"):
        residual = norm(fu - u)
        start = norm(u0) + norm(f0 - u0)
        allowed = 1.1 * _claimed(case, u, fu, start) + 4 * rounding(case, u, fu)
        excess = residual / allowed
    if case.solvable:
        verdict, distance = _by_answer(case, u, norm(u0), start, converged)
        excess = np.where(verdict == DISTANCE, distance, excess)
    else:
        with np.errstate(all="ignore"):
            clear = norm(f0 - u0) > 3 * claim(case, f0)
        vanishing, unit = case.answer.floor == 0, case.tol / _per_unit(case)
        clear &= np.where(vanishing, unit <= 1e-3, _floor_is_clear(case))
        verdict = np.where(clear, np.where(converged, NO_SOLUTION, RIGHT), NOT_JUDGED)
    wrong_residual = converged & ~(residual <= allowed) & (verdict == RIGHT)
    verdict = np.where(wrong_residual, RESIDUAL, verdict)
    finite = np.isfinite(outcome.z).all(-1)
    finite &= ~converged | (np.isfinite(outcome.abs_residual) & np.isfinite(outcome.rel_residual))
    finite &= (outcome.status != Status.NONFINITE) | (not case.family.tame)
    return np.where(finite, verdict, NOT_FINITE), excess


def _per_unit(case: Case) -> float:
    return 1.0 if case.program.mode == "rel" else case.scale[0, 0]


def _floor_is_clear(case: Case) -> np.ndarray:
    """That no residual is below an absolute tolerance."""
    return (case.program.mode == "rel") | (case.answer.floor > 3 * case.tol / _per_unit(case))


def _by_answer(
    case: Case, u: np.ndarray, size0: np.ndarray, start: np.ndarray, converged: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    answer = case.answer
    with np.errstate(all="ignore"):
        away = np.abs(answer.roots - u[..., None])
        nearest = np.argmin(np.where(np.isnan(away), np.inf, away), -1)[..., None]
        pick = lambda x: np.take_along_axis(x, nearest, -1)[..., 0]
        root, inverse = pick(answer.roots), pick(answer.inverse).max(-1)
        rho = rounding(case, root, root)
        claimed = _claimed(case, root, root, start)
        if case.program.mode == "rel":
            condition = inverse * (1 + answer.lipschitz)
            says_nothing = condition * case.tol > 1 / 4
            farthest = condition * case.tol * np.maximum(norm(root), size0)
            claimed = np.where(says_nothing, farthest / inverse, claimed)
        bound = inverse * (claimed + rho)
        bound = K * np.where(bound > answer.gap / 8, np.maximum(bound, answer.gap), bound)
        off = norm(u - root) / bound
    resolved = claim(case, root) > 4 * rho
    missed = np.where(resolved & (case.limit > 20), UNSOLVED, NOT_JUDGED)
    return np.where(converged, np.where(off <= 1, RIGHT, DISTANCE), missed), off
