"""Solvers by name."""

from collections.abc import Callable, Mapping
from typing import Any

from .._named import Registry
from .anderson import Anderson
from .base import Solver
from .bicgstab import BiCGStab
from .broyden import Broyden
from .cg import CG
from .fallback import Fallback
from .fixed_point import FixedPointIter
from .gmres import GMRES
from .neumann import Neumann
from .newton import Newton
from .simple_fixed_point import SimpleFixedPointIter

SOLVERS: Registry[Solver] = Registry(
    "solver",
    Solver,
    {
        "fixed_point_iter": FixedPointIter,
        "simple_fixed_point_iter": SimpleFixedPointIter,
        "anderson": Anderson,
        "broyden": Broyden,
        "newton": Newton,
        "fallback": Fallback,
        "gmres": GMRES,
        "bicgstab": BiCGStab,
        "cg": CG,
        "neumann": Neumann,
    },
)


def register_solver(name: str, factory: Callable[..., Solver], *, overwrite: bool = False) -> None:
    """Makes a solver of your own available by name, wherever a solver is named.

    Args:
        name: the name.
        factory: makes a `jdeq.Solver` from keyword options; usually the class itself.
        overwrite: replace a name that is taken.

    Raises:
        ValueError: the name is taken.
    """
    SOLVERS.register(name, factory, overwrite=overwrite)


def resolve_solver(spec: str | Solver, options: Mapping[str, Any]) -> Solver:
    """The solver that a name with options, or an object, stands for."""
    return SOLVERS.resolve(spec, options)
