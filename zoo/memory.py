"""What a model carries from one batch to the next."""

import jax
import jax.numpy as jnp
from flax import nnx


class Memory(nnx.Variable):
    """An array (B, ...) that the loss, or `evaluate`, reads and writes; zeros mean "empty".

    It is checkpointed with the rest of a model's state. A model makes it for any B, say 1: the
    trainer and the evaluation each size it for their own batches.
    """


def fresh_memory(state: nnx.State, batch_size: int) -> nnx.State:
    """`state` with every memory empty, and for `batch_size` rows."""
    return _map(state, lambda a: jnp.zeros((batch_size, *a.shape[1:]), a.dtype))


def forget(model: nnx.Module, fresh: jax.Array) -> None:
    """Empties every memory of `model` if `fresh` (), or the rows where `fresh` (B,) is true."""

    def emptied(a: jax.Array) -> jax.Array:
        where = jnp.expand_dims(fresh, tuple(range(fresh.ndim, a.ndim)))
        return jnp.where(where, jnp.zeros_like(a), a)

    nnx.update(model, _map(nnx.state(model, Memory), emptied))


def _map(state: nnx.State, f) -> nnx.State:
    """`state` with `f` applied to the array of every memory in it."""
    return jax.tree.map(
        lambda v: v.replace(f(v.get_value())) if isinstance(v, Memory) else v,
        state,
        is_leaf=lambda v: isinstance(v, nnx.Variable),
    )
