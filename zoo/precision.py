"""Computing in bfloat16, with parameters, sums and losses in float32."""

from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import Array

import jdeq
from zoo.errors import UserError
from zoo.settings import TrainConfig

T = TypeVar("T")


def wide(x: Array) -> Array:
    """x in float32 at least: for statistics, softmax and losses."""
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x


def cast(tree: T, train: TrainConfig) -> T:
    """Floating arrays of a tree in the dtype that a training step computes in.

    With "float32" they stay what they are.
    """
    if train.compute_dtype == "float32":
        return tree
    dtype = jnp.dtype(train.compute_dtype)
    return jax.tree.map(
        lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree
    )


def cast_like(tree: T, like: T) -> T:
    """The inverse: each array in the dtype of its counterpart."""
    return jax.tree.map(lambda a, b: a if a.dtype == b.dtype else a.astype(b.dtype), tree, like)


def check_tolerances(train: TrainConfig, deq: jdeq.DEQConfig) -> None:
    """Raises UserError if a solver's tolerance cannot be met in the dtype of training."""
    if train.compute_dtype == "float32":
        return
    try:
        deq.check_dtype(train.compute_dtype)
    except ValueError as e:
        raise UserError(f"--compute_dtype {train.compute_dtype}: {e}") from e
