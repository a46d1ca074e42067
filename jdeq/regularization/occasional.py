"""How often, and how heavily, a penalty is applied."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from .._checks import check_int, check_scalar


def sometimes(penalty: Callable[[], Array], key: Array, freq: float) -> Array:
    """`penalty()` with probability `freq`, else 0, for a penalty that need not be seen every step.

    The draw is made at run time by `lax.cond`, so a skipped penalty costs nothing, its gradient
    included. Under a `vmap` with one key per lane both branches are computed. The value is not
    divided by `freq`, as in the published `jac_loss_freq`: on average it is `freq` times the
    penalty.

    Args:
        penalty: takes nothing, returns an array; may close over anything.
        key: decides; use another one for what is random inside the penalty.
        freq: probability, in [0, 1].

    Returns:
        What `penalty` returns, or zeros of its shape and dtype.

    Raises:
        ValueError: `freq` is not a probability.

    Source: Bai, Koltun, Kolter, *Stabilizing Equilibrium Models by Jacobian Regularization* (2021).

    Example:
        >>> import jax, jax.numpy as jnp, jdeq
        >>> f = lambda z: 0.5 * z
        >>> @jax.jit
        ... def penalty(key):
        ...     draw, probe = jax.random.split(key)
        ...     return jdeq.sometimes(lambda: jdeq.jac_reg(f, jnp.ones((1, 1)), probe), draw, 0.4)
        >>> 25 < sum(bool(penalty(jax.random.key(i)) > 0) for i in range(100)) < 55
        True
    """
    check_scalar("freq", freq, low=0, high=1)
    if freq == 1:
        return penalty()
    out = jax.eval_shape(penalty)
    nothing = lambda: jnp.zeros(out.shape, out.dtype)
    if freq == 0:
        return nothing()
    return lax.cond(jax.random.bernoulli(key, freq), penalty, nothing)


def incremental_weight(
    step: ArrayLike, *, start: float, every: int, increment: float = 0.1
) -> Array:
    """`start + increment * (step // every)`: the weight of a penalty that grows during training.

    The schedule published with the Jacobian penalty (`jac_loss_weight`, `jac_incremental`): the
    model is first free to fit, then held to be stable more and more firmly.

    Args:
        step: training step, from 0; an integer, traced or not.
        start: weight during the first `every` steps.
        every: steps between two increments.
        increment: by how much.

    Returns:
        A float scalar.

    Raises:
        ValueError, TypeError: `every` is not a positive integer.

    Source: Geng, Kolter, *TorchDEQ* (2023), the DEQ transformer of its zoo.

    Example:
        >>> import jdeq
        >>> weight = lambda step: jdeq.incremental_weight(step, start=0.1, every=30_000)
        >>> [f"{weight(step):.1f}" for step in (0, 29_999, 60_000)]
        ['0.1', '0.1', '0.3']
    """
    check_int("every", every, low=1)
    return start + increment * jnp.floor_divide(step, every).astype(float)
