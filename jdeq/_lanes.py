"""Questions about all samples at once, so that `vmap` of a solve is one batched loop.

A loop whose condition differs from lane to lane is one that JAX has to mask: it would copy every
history at each iteration. Samples freeze on their own, so a loop may go on until the last lane has
stopped.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax


def any_of(mask: Array, axes: tuple[str, ...] = ()) -> Array:
    """Whether `mask` holds anywhere: in any lane of a `vmap`, or anywhere along these axes."""
    found = _in_any_lane(jnp.any(mask))
    return lax.pmax(found.astype(jnp.int32), axes) > 0 if axes else found


def largest_of(x: Array, axes: tuple[str, ...] = ()) -> Array:
    """The largest of some integers that are not negative, 0 if there are none; as `any_of`."""
    found = _largest_lane(jnp.max(x, initial=0))
    return lax.pmax(found, axes) if axes else found


def _over_lanes(reduce: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The identity of scalars; under `vmap`, what `reduce` makes of all lanes, for each of them."""

    @jax.custom_batching.custom_vmap
    def same(found: Array) -> Array:
        return found

    same.def_vmap(lambda size, batched, found: (same(reduce(found)), False))
    return same


_in_any_lane, _largest_lane = _over_lanes(jnp.any), _over_lanes(jnp.max)
