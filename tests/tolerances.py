"""How far apart two right answers may be: by rounding, and by where a solver stops.

A comparison states its reason by one of these, so that it holds on every machine: with other
instructions or another number of threads, a sum is added in another order, and a product in it is
rounded or not.
"""

import jax.numpy as jnp


def rounding(dtype, terms, size=1.0):
    """Between two ways to add `terms` numbers, or products, whose magnitudes sum to `size`.

    Each is off by at most half a unit in the last place of `size` per term.
    """
    return terms * float(jnp.finfo(dtype).eps) * size


def solved(tol, rate, size=1.0):
    """Between a state of residual `tol`, relative to `size`, and the fixed point.

    For f that contracts by `rate`: |z - z*| <= |f(z) - z| / (1 - rate). Two such states are at most
    twice as far apart.
    """
    return tol * size / (1 - rate)


def steered(dtype, steps, rate):
    """Between the iterates of one accelerated solve in two programs, relative to the residual.

    Anderson and Broyden leave out what depends on newer iterates up to rounding, so the changes
    that steer them have a condition number of up to 1 / sqrt(eps): what is left of a residual is
    off by sqrt(eps) of it in each step, the state by 1 / (1 - rate) times as much.
    """
    return steps * float(jnp.finfo(dtype).eps) ** 0.5 / (1 - rate)
