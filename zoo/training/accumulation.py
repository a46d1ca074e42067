"""The gradient of a large batch, from small ones."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from zoo.data.split import parted
from zoo.nn.carry import Carry


class Gradient(NamedTuple):
    """Of one batch: gradient of the loss, the variables afterwards, scalars to be logged."""

    grads: Any
    rest: Any
    metrics: dict[str, Array]


Batch = Mapping[str, Array]
GradientFn = Callable[[Any, Any, Array, Batch], Gradient]  # of params, rest, key, batch


def accumulated(gradient: GradientFn, parts: int, shared: Collection[str]) -> GradientFn:
    """The mean of `gradient` over equal parts of a batch, one after the other.

    Row r of the batch is in part r modulo `parts`, so that a batch which is split over devices
    stays where it is. What the model carries is cut like the batch: each row goes on in its own
    memory, as in the whole batch. Other variables, such as batch statistics, see one part after
    the other. Entries of the batch without rows, named in `shared`, belong to all parts.
    """
    if parts == 1:
        return gradient

    def cut(a: Array) -> Array:
        return jnp.swapaxes(a.reshape(-1, parts, *a.shape[1:]), 0, 1)

    def joined(a: Array) -> Array:
        return jnp.swapaxes(a, 0, 1).reshape(-1, *a.shape[2:])

    def mean(params: Any, rest: Any, key: Array, batch: Batch) -> Gradient:
        carried, others = nnx.split_state(rest, Carry, ...)
        rows, whole = parted(batch, shared)

        def part(others: Any, i: Array, carried: Any, rows: Batch) -> tuple[Any, Any, Any]:
            rest = nnx.merge_state(others, carried)
            out = gradient(params, rest, jax.random.fold_in(key, i), {**rows, **whole})
            carried, others = nnx.split_state(out.rest, Carry, ...)
            return others, carried, (out.grads, jax.tree.map(as_float, out.metrics))

        def step(state: Any, xs: Any) -> Any:
            others, carried, out = part(state[0], *xs)
            return (others, jax.tree.map(jnp.add, state[1], out)), carried

        xs = (jnp.arange(parts), jax.tree.map(cut, carried), jax.tree.map(cut, rows))
        shapes = jax.eval_shape(part, others, *jax.tree.map(lambda a: a[0], xs))[2]
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        (others, sums), carried = jax.lax.scan(step, (others, zeros), xs)
        rest = nnx.merge_state(others, jax.tree.map(joined, carried))
        grads, metrics = jax.tree.map(lambda a: a / parts, sums)
        return Gradient(grads, rest, metrics)

    return mean


def as_float(a: Array) -> Array:
    """Counts become numbers of which there is a mean."""
    return a if jnp.issubdtype(a.dtype, jnp.floating) else a.astype(jnp.float32)
