"""What plain iteration, `z <- f(z)`, does."""

import enum
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jax import Array, lax

from .._space import PyTree, Space

NUDGE = 1e-3  # how far from z0 it starts: off a fixed point that repels
SETTLED = 1e-4  # a rate further from 1 than this is contraction or growth
TREND = 6.0  # standard errors that a trend of the moves must have; those of chaos are correlated


class Behaviour(enum.IntEnum):
    """What plain iteration, `z <- f(z)`, does from near the start."""

    CONTRACTS = 0
    OSCILLATES = 1  # between two states
    DIVERGES = 2
    WANDERS = 3  # a longer cycle, chaos, a drift


class Moves(NamedTuple):
    """Norms of `z_{k+1} - z_k`, `z_{k+1} - z_{k-1}` and `z_{k+1}`, each `(n_iters, *batch)`.

    A move of the first kind is the later one of the two that one of the second makes up.
    """

    one: Array | np.ndarray
    two: Array | np.ndarray
    size: Array | np.ndarray


def watch(
    space: Space, f: Callable[[PyTree], PyTree], z0: PyTree, noise: PyTree, n_iters: int
) -> Moves:
    """Iterates `n_iters` times, from near `z0`."""

    def step(carry, _):
        before, z = carry
        fz = f(z)
        moves = Moves(
            space.norm(space.sub(fz, z)), space.norm(space.sub(fz, before)), space.norm(fz)
        )
        return (z, fz), moves

    start = space.add(z0, noise, NUDGE)
    return lax.scan(step, (start, f(start)), None, length=n_iters)[1]


def behaviour(moves: Moves, eps: float, attracts: bool) -> tuple[Behaviour, float]:
    """What one sample's moves, each `(n_iters,)`, show; and by which factor they change in the end.

    That the moves became smaller for a while proves no contraction: those of a chaotic orbit do.
    They must have come to nothing, or shrink steadily where there is a fixed point that attracts.

    Args:
        eps: resolution of the states.
        attracts: whether the fixed point that is known, if one is, attracts plain iteration.
    """
    one, two, size = moves
    settled = np.flatnonzero(~(one > 16 * eps * size))  # NaN counts
    finite = np.isfinite(one) & np.isfinite(size)
    end = min([len(one), *settled[:1], *np.flatnonzero(~finite)[:1]])
    rate, steady = _trend(np.asarray(one[end // 2 : end], np.float64))
    if not finite.all():
        return Behaviour.DIVERGES, rate
    if settled.size or (attracts and steady and rate < 1 - SETTLED):
        return Behaviour.CONTRACTS, rate
    late = slice(3 * end // 4, end)
    if np.all(two[late] < 0.1 * one[late]):
        return Behaviour.OSCILLATES, rate
    grows = steady and rate > 1 + SETTLED
    return (Behaviour.DIVERGES if grows else Behaviour.WANDERS), rate


def _trend(moves: np.ndarray) -> tuple[float, bool]:
    """The factor per iteration by which the moves change, by least squares, and whether they do."""
    if moves.size < 2:
        return 0.0, False
    k = np.arange(moves.size) - (moves.size - 1) / 2
    y = np.log(moves)
    slope = k @ y / (k @ k)
    scatter = y - y.mean() - slope * k
    error = np.sqrt(scatter @ scatter / max(1, moves.size - 2) / (k @ k))
    return float(np.exp(slope)), bool(abs(slope) > TREND * error)
