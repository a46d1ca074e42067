"""Questions about all samples at once, so that `vmap` of a solve is one batched loop.

A loop whose condition differs from lane to lane is one that JAX has to mask: it would copy every
history at each iteration. Samples freeze on their own, so a loop may go on until the last lane has
stopped.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax


def any_of(mask: Array, axes: tuple[str, ...] = ()) -> Array:
    """Whether `mask` holds anywhere: in any lane of a `vmap`, or anywhere along these axes."""
    found = _in_any_lane(jnp.any(mask))
    return lax.pmax(found.astype(jnp.int32), axes) > 0 if axes else found


def largest_of(x: Array, axes: tuple[str, ...] = ()) -> Array:
    """The largest of some integers that are not negative, 0 if there are none; as `any_of`."""
    found = _in_all_lanes(jnp.max(x, initial=0))
    return lax.pmax(found, axes) if axes else found


@jax.custom_batching.custom_vmap
def _in_any_lane(found: Array) -> Array:
    return found


@_in_any_lane.def_vmap
def _(_, __, found: Array) -> tuple[Array, bool]:
    return _in_any_lane(jnp.any(found)), False


@jax.custom_batching.custom_vmap
def _in_all_lanes(found: Array) -> Array:
    return found


@_in_all_lanes.def_vmap
def _(_, __, found: Array) -> tuple[Array, bool]:
    return _in_all_lanes(jnp.max(found)), False
