"""Solvers by name."""

from collections.abc import Callable, Mapping
from typing import Any

from .._named import Registry
from .base import Solver

OF_TORCHDEQ = {  # options there, and what to write here
    "solver_kwargs": "write its entries themselves, deq(f, z0, m=6, tau=0.8)",
    "l_thres": "write memory",
    "sradius_mode": "call jdeq.spectral_radius(f, z, key)",
}
SOLVERS: Registry[Solver] = Registry("solver", Solver)  # the package registers its own
AFFINE: Registry[Solver] = Registry("solver", Solver)  # what some names stand for backward


def register_solver(name: str, factory: Callable[..., Solver], *, overwrite: bool = False) -> None:
    """Makes a solver of your own available by name, wherever a solver is named.

    Args:
        name: the name.
        factory: makes a `jdeq.Solver` from keyword options; usually the class itself.
        overwrite: replace a name that is taken.

    Raises:
        ValueError: the name is taken.
        TypeError: the name is no word, or the factory cannot be called.
    """
    SOLVERS.register(name, factory, overwrite=overwrite)
    AFFINE.entries.pop(name, None)


def resolve_solver(
    spec: str | Solver, options: Mapping[str, Any], *, affine: bool = False
) -> Solver:
    """The solver that a name with options, or an object, stands for.

    With `affine`, for the affine `f` of backward solves, where a name may stand for another one.
    """
    own = affine and isinstance(spec, str) and spec in AFFINE.entries
    try:
        return (AFFINE if own else SOLVERS).resolve(spec, options)
    except TypeError as error:
        for option in options:
            if option in OF_TORCHDEQ:
                what = f"a solver has no option {option!r}: {OF_TORCHDEQ[option]}"
                raise TypeError(what) from error
        raise
