"""What a model carries from one batch to the next."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx


class Carry(nnx.Variable):
    """Arrays (B, ...), one or a pytree of them, that `loss` and `evaluate` read and write.

    Zeros mean "nothing yet". A model makes them for any B, say 1: the trainer and the evaluation
    each size them for their own batches. They are checkpointed with the rest of the state.
    """


def fresh_carry(state: nnx.State, batch_size: int) -> nnx.State:
    """`state` with nothing carried yet, and for `batch_size` rows."""
    return _map(state, lambda a: jnp.zeros((batch_size, *a.shape[1:]), a.dtype))


def forget(model: nnx.Module, fresh: jax.Array) -> None:
    """Empties what `model` carries if `fresh` (), or in the rows where `fresh` (B,) is true."""

    def emptied(a: jax.Array) -> jax.Array:
        where = jnp.expand_dims(fresh, tuple(range(fresh.ndim, a.ndim)))
        return jnp.where(where, jnp.zeros_like(a), a)

    nnx.update(model, _map(nnx.state(model, Carry), emptied))


def _map(state: nnx.State, f: Callable[[jax.Array], jax.Array]) -> nnx.State:
    """`state` with `f` applied to every array that is carried."""
    return jax.tree.map(
        lambda v: jax.tree.map(f, v) if isinstance(v, Carry) else v,
        state,
        is_leaf=lambda v: isinstance(v, nnx.Variable),
    )
