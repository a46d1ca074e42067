"""What `"auto"` stands for: plain iteration, and other solvers for the samples that it leaves."""

from typing import Literal

from jax import Array

from .fallback import Fallback
from .fixed_point import FixedPointIter
from .linear import GMRES


def auto(
    *,
    max_iter: int = 50,
    tol: float | Array | None = None,
    stop_mode: Literal["rel", "abs"] = "rel",
) -> Fallback:
    """Plain iteration for as long as it will arrive, then Anderson acceleration, then Newton.

    A sample whose residual falls too slowly for `max_iter` iterations, or rises, is left to the
    next solver; while there is none, nothing of that one is made. So contractions cost what they
    cost by plain iteration. Compiles all three; for backward solves see `auto_affine`.

    Args:
        max_iter: of each.
        tol, stop_mode: as for any solver.

    Example:
        >>> import jax.numpy as jnp, jdeq
        >>> slope = jnp.array([[0.5], [-4.0]])  # plain iteration solves the first sample only
        >>> z, info = jdeq.deq(lambda z: slope * z + 1, jnp.zeros((2, 1)), solver="auto")
        >>> bool(info.converged.all())
        True
    """
    plain = FixedPointIter(max_iter=max_iter, tol=tol, stop_mode=stop_mode, give_up=True)
    stages = (plain, "anderson", "newton")
    return Fallback(stages, max_iter=3 * max_iter, tol=tol, stop_mode=stop_mode)


def auto_affine(
    *,
    max_iter: int = 100,
    tol: float | Array | None = None,
    stop_mode: Literal["rel", "abs"] = "rel",
) -> GMRES:
    """The same for affine `f`, which backward solves have: plain iteration, then GMRES.

    Far from a spectral radius of 1, plain iteration takes few products more than GMRES, and GMRES
    costs as much beside a product as one of a small network.

    Args:
        max_iter: products in all, half of which may be plain iterations.
        tol, stop_mode: as for any solver.
    """
    return GMRES(max_iter=max_iter, tol=tol, stop_mode=stop_mode, plain=max_iter // 2)
