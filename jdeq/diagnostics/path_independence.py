"""Does the solution depend on where the solver starts?"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from .._checks import check_int
from .._deq import deq
from .._space import PyTree, Space
from .._spectrum import random_like, repeat
from .._state import check_state
from ..regularization.mixed_init import mixed_init


class PathIndependence(NamedTuple):
    """How solutions from other starts compare with the one from `z0`; each `(*batch,)`.

    `alignment` is their cosine, averaged over the starts: 1 for a path independent model.
    `distance` is the largest `||z - z*|| / ||z*||`, which sees lengths too. `converged` tells
    whether all the solves did; where not, the other two say little.
    """

    alignment: Array
    distance: Array
    converged: Array


def path_independence(
    f: Callable[[PyTree], PyTree],
    z0: PyTree,
    key: Array,
    *,
    starts: Literal["others", "noise", "mixed"] = "others",
    n_starts: int = 1,
    batch_dims: int = 1,
    **options: Any,
) -> PathIndependence:
    """The asymptotic alignment score: compares the solution from `z0` with those from elsewhere.

    Costs `1 + n_starts` solves, those from elsewhere as one batch. No gradient flows through it.

    Args:
        f: the equilibrium function.
        z0: start state that the model is used with.
        key: PRNG key of the other starts.
        starts: where else to start: `"others"`, at the solutions of other samples of the batch,
            as published; `"noise"`, at standard normal states; `"mixed"`, at `mixed_init`.
        n_starts: how many other starts per sample.
        batch_dims: how many leading axes are independent samples.
        **options: `solver`, `max_iter`, `tol`, ... of `deq`; generous ones, as a solve that has not
            arrived looks like another solution.

    Returns:
        A `PathIndependence`.

    Raises:
        ValueError: an option out of range; `"others"` without other samples. And as `deq`.

    Source: Anil et al., *Path Independent Equilibrium Models Can Better Exploit Test-Time
    Computation* (2022), sec. 4.

    Example:
        >>> import jax, jax.numpy as jnp, jdeq
        >>> gain = jnp.array([[0.5], [2.0]])  # tanh(2 z) has two stable fixed points
        >>> found = jdeq.path_independence(
        ...     lambda z: jnp.tanh(gain * z + 0.01), jnp.ones((2, 1)), jax.random.key(0),
        ...     starts="noise", n_starts=32, tol=1e-4, max_iter=200)
        >>> [f"{a:.0f}" for a in found.distance]
        ['0', '2']
    """
    check_int("n_starts", n_starts, low=1)
    z0 = check_state(z0, batch_dims)
    space = Space(batch_dims)
    solve = lambda z: deq(f, z, batch_dims=batch_dims, **options)
    z, info = solve(z0)
    if starts == "others":
        elsewhere = _solutions_of_others(key, z, batch_dims, n_starts)
    elif starts == "noise":
        elsewhere = random_like(key, repeat(z, n_starts))
    elif starts == "mixed":
        elsewhere = mixed_init(key, repeat(z, n_starts))
    else:
        raise ValueError(f"starts must be 'others', 'noise' or 'mixed', got {starts!r}")
    found, infos = jax.vmap(solve)(elsewhere)

    def compare(other: PyTree) -> tuple[Array, Array]:
        distance, size = space.distance(other, z), space.norm(z)
        product = size * space.norm(other)
        cosine = space.dot(other, z) / jnp.where(product > 0, product, 1)
        same = (distance == 0).astype(distance.dtype)  # both may be 0
        return jnp.where(product > 0, cosine, same), distance / jnp.where(size > 0, size, 1)

    alignment, distance = jax.vmap(compare)(found)
    scores = lax.stop_gradient((jnp.mean(alignment, 0), jnp.max(distance, 0)))
    return PathIndependence(*scores, info.converged & jnp.all(infos.converged, 0))


def _solutions_of_others(key: Array, z: PyTree, batch_dims: int, n_starts: int) -> PyTree:
    """`z` with its first axis turned by random amounts, none of them 0."""
    n = jax.tree.leaves(z)[0].shape[0] if batch_dims else 1
    if n < 2:
        raise ValueError("starts='others' needs a batch of at least two samples, or 'noise'")
    turns = jax.random.randint(key, (n_starts,), 1, n)
    return jax.vmap(lambda turn: jax.tree.map(lambda x: jnp.roll(x, turn, 0), z))(turns)
