"""Random numbers of iterations."""

import jax
import jax.numpy as jnp
from jax import Array

from .._checks import check_int


def random_max_iter(key: Array, low: int, high: int) -> Array:
    """A random number of iterations, uniform over `low, ..., high`, for one training step.

    A model that has seen its solver stop early and late depends less on how it got to the state.
    The number is a traced integer, so it costs no recompilation.

    Args:
        key: PRNG key.
        low: fewest.
        high: most, included. No solver goes beyond its own `max_iter`, which has to be that much.

    Returns:
        An int32 scalar, for `deq(max_iter=...)` or a layer's `max_iter=`.

    Raises:
        TypeError, ValueError: not integers, or not `0 <= low <= high`.

    Source: Anil et al., *Path Independent Equilibrium Models Can Better Exploit Test-Time
    Computation* (2022); TorchDEQ paper, sec. 2.6.

    Example:
        >>> import jax, jax.numpy as jnp, jdeq
        >>> @jax.jit
        ... def steps(key):
        ...     solver = jdeq.FixedPointIter(max_iter=8, tol=1e-7)
        ...     limit = jdeq.random_max_iter(key, 2, 8)
        ...     return jdeq.deq(lambda z: 0.9 * z + 1, jnp.zeros(()), solver=solver,
        ...                     batch_dims=0, max_iter=limit)[1].steps
        >>> sorted({int(steps(jax.random.key(i))) for i in range(50)})
        [2, 3, 4, 5, 6, 7, 8]
    """
    check_int("low", low, low=0)
    check_int("high", high, low=low)
    return jax.random.randint(key, (), low, high + 1, jnp.int32)
