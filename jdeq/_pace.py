"""Whether a residual that falls slowly will be small in time."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

WATCHED = 4  # iterations over which a rate is taken


def is_late(before: Array, now: Array, tol: ArrayLike, left: ArrayLike) -> Array:
    """Whether residuals that fall as over the last `WATCHED` iterations are not small in time.

    Args:
        before, now: the residuals then and now, `(*batch,)`.
        tol: what they must be below.
        left: how many more iterations there may be.
    """
    tiny = jnp.finfo(now.dtype).tiny
    log = lambda x: jnp.log(jnp.maximum(x, tiny))
    fall, to_fall = log(before) - log(now), log(now) - log(tol)
    return ~(WATCHED * to_fall <= jnp.asarray(left, now.dtype) * fall)
