"""Steps that are left out because their loss or gradient is not finite."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from zoo.state import Skips

State = TypeVar("State", bound=Any)  # a NamedTuple with the field `skips`


def accepted(made: State, before: State, *values: jax.Array) -> State:
    """The state `made` by a step if all `values` are finite, else the one `before` it.

    Every array counts: parameters, optimiser, statistics and what is carried. Decided on the
    device, so that no step waits for the host; `skips` counts on.
    """
    good = jnp.all(jnp.stack([jnp.all(jnp.isfinite(value)) for value in values]))
    state = jax.tree.map(lambda new, old: jnp.where(good, new, old), made, before)
    total, in_a_row = before.skips
    left_out = 1 - good.astype(jnp.int32)
    return state._replace(skips=Skips(total + left_out, (in_a_row + 1) * left_out))
