"""The judge, in float64 and in units of each problem's scale.

With F = f(u) - u as NumPy has it and `claim` what the tolerance says of |F| (`tol |f(u)|`, `tol`,
or `tol |b|` where b is a cotangent), f as computed is off by at most

    rho(u) = eps |f(u)| + 32 eps_w (|u| + |f(u)| + | |W| |u| | + |b|) + what underflows,

where `eps` is the state's, and `eps_w` that of the dtype f is computed in. A sample that is
CONVERGED is at fault if it has no solution, and otherwise unless

    |F| <= 1.1 claim + 4 rho                                            (its residual), and
    |u - u*| <= K |(I - J)^-1| (claim at u* + rho),  K = 4              (its distance),

rho being the larger of rho(u*) and rho(u0): where a far start is all but a solution as the dtype
computes f, that is as near as one comes.

The second follows from the first. |u - u*| <= |(I - J)^-1| |F|, and in relative mode
|f(u)| <= |u*| + L |u - u*|: while `cond tol = |(I - J)^-1| (1 + L) tol` is below 1/4, a factor of 2
is enough, and K has another 2 for the curvature. Beyond that the tolerance says nothing of the
distance; a state that has run away is told by `K cond tol` times the larger of |u*| and |u0|. Where
a root's surroundings (`gap`) are smaller than that, K `gap` is what counts.

A problem without a solution is judged where the tolerance and the dtype can tell: the start's
residual, and the smallest there is, are above 3 times what either makes of |u0| and |f(u0)|. Where
residuals vanish at infinity, `tol` is 1e-3 at most, and |u0| and |f(u0)| are 1e3.
"""

import jax.numpy as jnp
import numpy as np

from jdeq import Status

from .cases import MAX_ITER, Case, Outcome
from .formulas import exactly, wide_of

K = 4.0
WEIGHTS, FARTHEST = 32, 1e3
VERDICTS = (
    "right",
    "unsolved",
    "not judged",
    "a: no solution",
    "a: at infinity",
    "b: residual",
    "b: distance",
    "c: not finite",
)
RIGHT, UNSOLVED, NOT_JUDGED, *FAULTS = range(len(VERDICTS))
NO_SOLUTION, AT_INFINITY, RESIDUAL, DISTANCE, NOT_FINITE = FAULTS


def judge(case: Case, outcome: Outcome) -> tuple[np.ndarray, np.ndarray]:
    """A verdict per sample, and by what factor of its bound the state is off."""
    with np.errstate(all="ignore"):
        converged = outcome.status == Status.CONVERGED
        u, u0 = outcome.z / case.scale, case.z0 / case.scale
        fu, f0 = (exactly(case.family.formula, case.p, x) for x in (u, u0))
        begun = _norm(u0) + _norm(f0 - u0)
        allowed = case.slack * _claimed(case, fu, begun) + 4 * _rounding(case, u, fu)
        excess = _ratio(_norm(fu - u), allowed)
        if case.answer.roots is None:
            judged = _clear(case, u0, f0)
            fault = np.where(case.answer.floor == 0, AT_INFINITY, NO_SOLUTION)
            verdict = np.where(converged, fault, RIGHT)
        else:
            distance, judged = _distance(case, u, u0, begun)
            judged |= converged
            verdict = np.where(converged, np.where(distance <= 1, RIGHT, DISTANCE), UNSOLVED)
            excess = np.where(verdict == DISTANCE, distance, excess)
        verdict = np.where(judged, verdict, NOT_JUDGED)
        wrong = converged & (verdict == RIGHT) & ~(excess <= 1)
        verdict = np.where(wrong, RESIDUAL, verdict)
    return np.where(_finite(case, outcome, converged), verdict, NOT_FINITE), excess


def _finite(case: Case, outcome: Outcome, converged: np.ndarray) -> np.ndarray:
    """The state is, so is what was measured, and nobody says that a contraction is not."""
    measured = np.isfinite(outcome.abs_residual) & np.isfinite(outcome.rel_residual)
    broken = (outcome.status == Status.NONFINITE) & case.family.tame
    return np.isfinite(outcome.z).all(-1) & (~converged | measured) & ~broken


def _distance(
    case: Case, u: np.ndarray, u0: np.ndarray, begun: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """|u - u*| as a factor of its bound; where a solver has no excuse for not arriving."""
    root, inverse = case.answer.nearest(u)
    rho, claimed = _rounding(case, root, root), _claimed(case, root, begun)
    dtype = jnp.finfo(case.program.dtype)
    between = case.answer.lipschitz * float(dtype.eps) * _norm(root)  # states that it can hold
    resolved = _claim(case, root) > 4 * (rho + between)
    resolved &= np.abs(root * case.scale).max(-1) < float(dtype.max)
    if case.claim_of == "f":
        condition = inverse * (1 + case.answer.lipschitz) * case.tol
        farthest = condition * np.maximum(_norm(root), _norm(u0))
        claimed = np.where(condition > 1 / 4, farthest / inverse, claimed)
    bound = inverse * (case.slack * claimed + np.maximum(rho, _rounding(case, u0, u0)))
    gap = case.answer.gap
    bound = K * np.where(bound > gap / 8, np.maximum(bound, gap), bound)
    return _ratio(_norm(u - root), bound), resolved & (case.limit == MAX_ITER)


def _clear(case: Case, u0: np.ndarray, f0: np.ndarray) -> np.ndarray:
    """Where a residual below the tolerance could only come of running away."""
    floor, first = case.answer.floor, _norm(f0 - u0)
    size = np.maximum(_norm(u0), _norm(f0))
    eps = float(jnp.finfo(case.program.dtype).eps)
    unit = case.tol / (case.scale[0, 0] if case.claim_of == "1" else 1)
    told = 3 * np.maximum(eps * size, np.maximum(_claim(case, u0), _claim(case, f0)))
    vanishing = (unit <= 1e-3) & (size <= FARTHEST)
    return (first > told) & np.where(floor == 0, vanishing, floor > told)


def _claim(case: Case, fu: np.ndarray) -> np.ndarray:
    of = {
        "f": lambda: _norm(fu),
        "b": lambda: _norm(case.p["b"]),
        "1": lambda: 1 / case.scale[:, 0],
    }
    return case.tol * of[case.claim_of]()


def _claimed(case: Case, fu: np.ndarray, begun: np.ndarray) -> np.ndarray:
    """The claim; of a solution 0 in relative mode, that the error is `tol` times the start's."""
    roots = case.answer.roots
    at_zero = roots is not None and case.claim_of == "f" and not roots.any()
    return case.tol * begun if at_zero else _claim(case, fu)


def _rounding(case: Case, u: np.ndarray, fu: np.ndarray) -> np.ndarray:
    """rho(u)."""
    dtype = jnp.finfo(case.program.dtype)
    eps, eps_wide = float(dtype.eps), float(jnp.finfo(wide_of(case.program.dtype)).eps)
    products = _norm((np.abs(case.p["w"]) * np.abs(u)[:, None, :]).sum(-1))
    terms = _norm(u) + _norm(fu) + products + _norm(case.p["b"])
    underflow = 4 * u.shape[1] * float(dtype.smallest_normal) / case.scale[:, 0]
    return eps * _norm(fu) + WEIGHTS * eps_wide * terms + underflow


def _ratio(x: np.ndarray, bound: np.ndarray) -> np.ndarray:
    return np.where(x == 0, 0, x / bound)


def _norm(x: np.ndarray) -> np.ndarray:
    """2-norm over the last axis, of squares that do not overflow."""
    size = np.abs(x).max(-1)
    usable = np.where((size > 0) & np.isfinite(size), size, 1)
    return usable * np.sqrt(((x / usable[..., None]) ** 2).sum(-1))
