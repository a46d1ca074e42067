"""Which solvers find a fixed point, and at what cost."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .._deq import deq
from .._info import Status
from .._space import PyTree, Space
from ..solvers.anderson import Anderson
from ..solvers.base import Solver
from ..solvers.broyden import Broyden
from ..solvers.fixed_point import FixedPointIter
from ..solvers.newton import Newton
from ..solvers.registry import SOLVERS, resolve_solver

PLAIN = "fixed_point_iter"
TRIED: dict[str, Solver] = {
    PLAIN: FixedPointIter(max_iter=100),
    "anderson": Anderson(max_iter=100),
    "broyden": Broyden(max_iter=100),
    "newton": Newton(),
}


class Trial(NamedTuple):
    """`converged` (*batch) bool, from z0; `nfe` () int32, evaluations of f for the whole batch."""

    converged: np.ndarray | Array
    nfe: np.ndarray | Array


class Found(NamedTuple):
    """States, the residuals there, and how the solves that led to them ended."""

    z: PyTree
    abs_residual: Array
    rel_residual: Array
    status: Array


def candidates(solver: str | Solver) -> dict[str, Solver]:
    """By name what is tried: `solver` first, then the others, to its tolerance.

    Raises:
        TypeError, ValueError: it is no solver, nor the name of one.
    """
    first = resolve_solver(solver, {})
    known = [name for name, factory in SOLVERS.entries.items() if factory is type(first)]
    name = solver if isinstance(solver, str) else next(iter(known), type(first).__name__)
    others = {
        other: dataclasses.replace(settings, tol=first.tol, stop_mode=first.stop_mode)
        for other, settings in TRIED.items()
        if other != name
    }
    return {name: first, **others}


def search(
    f: Callable[[PyTree], PyTree], starts: PyTree, solvers: dict[str, Solver], batch_dims: int
) -> tuple[Found, list[Found], dict[str, Trial]]:
    """Solves by the first solver from all starts, by the others from the first one.

    Outside `jit`, where the compiled solves of an equal `f` are used again.

    Args:
        starts: leaves `(n_starts, *batch, ...)`.

    Returns:
        What the first solver found, with a leading axis of starts; what the others did; and how
        all of them do from the first start.
    """

    def solve(z: PyTree, solver: Solver) -> tuple[Found, Trial]:
        z, info = deq(f, z, solver=solver, batch_dims=batch_dims)
        found = Found(z, info.abs_residual, info.rel_residual, info.status)
        return found, Trial(info.converged, info.nfe)

    (name, first), *others = solvers.items()
    z0 = jax.tree.map(lambda x: x[0], starts)
    every, trials = jax.vmap(lambda z: solve(z, first))(starts)
    tried = {other: solve(z0, solver) for other, solver in others}
    how = {name: jax.tree.map(lambda x: x[0], trials), **{n: t for n, (_, t) in tried.items()}}
    return every, [found for found, _ in tried.values()], how


def gather(space: Space, every: Found, others: list[Found]) -> tuple[Found, Found]:
    """Of what `search` found: from the first start by sample that of the first solver which
    converged there, else the very first one's; and all of it, with a leading axis.
    """
    best: Found = jax.tree.map(lambda x: x[0], every)
    for found in others:
        better = (found.status == Status.CONVERGED) & (best.status != Status.CONVERGED)
        pick = lambda new, old, better=better: jnp.where(better, new, old)
        rest = jax.tree.map(pick, found[1:], best[1:])
        best = Found(space.where(better, found.z, best.z), *rest)
        every = jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), every, found)
    return best, every
