"""The solvers that are tried."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jdeq
from jdeq.extend import Solver


@dataclasses.dataclass(frozen=True)
class Variant:
    """A solver with options; `affine`, `symmetric`: all that it is made for."""

    make: Callable[..., Solver]
    affine: bool = False
    symmetric: bool = False


def with_options(solver: Callable[..., Solver], **options: Any) -> Variant:
    return Variant(lambda **common: solver(**options, **common))


def _plain_first(*, max_iter: int, **common: Any) -> Solver:
    return jdeq.GMRES(max_iter=max_iter, plain=max_iter // 2, **common)


VARIANTS = {
    "fixed_point_iter": Variant(jdeq.FixedPointIter),
    "fixed_point_iter, damped": with_options(jdeq.FixedPointIter, tau=0.5),
    "simple_fixed_point_iter": Variant(jdeq.SimpleFixedPointIter),
    "anderson": Variant(jdeq.Anderson),
    "anderson, type I": with_options(jdeq.Anderson, kind=1),
    "anderson, line search": with_options(jdeq.Anderson, line_search=True, m=4),
    "anderson, absolute": with_options(jdeq.Anderson, lam_mode="absolute"),
    "broyden": Variant(jdeq.Broyden),
    "broyden, bad": with_options(jdeq.Broyden, update="bad", memory=8),
    "broyden, line search": with_options(jdeq.Broyden, line_search=True),
    "broyden, limited memory": with_options(jdeq.Broyden, memory=4),
    "newton": Variant(jdeq.Newton),
    "newton, inexact": with_options(jdeq.Newton, inner_max_iter=2, backtracks=3),
    "fallback": Variant(jdeq.Fallback),
    "gmres": Variant(jdeq.GMRES, affine=True),
    "gmres, plain first": Variant(_plain_first, affine=True),
    "bicgstab": Variant(jdeq.BiCGStab, affine=True),
    "cg": Variant(jdeq.CG, affine=True, symmetric=True),
    "neumann": Variant(jdeq.Neumann, affine=True),
}
