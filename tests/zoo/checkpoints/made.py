"""Checkpoints for tests, whose arrays tell their step."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from zoo.checkpoints.saving import Saver
from zoo.folder import RunFolder


def state(step: int):
    """Arrays of several kinds that tell the step."""
    return {
        "w": jnp.full((30, 40), step, jnp.float32),
        "key": jax.random.key(step),
        "count": np.int32(step),
        "bf16": jnp.full(3, step, jnp.bfloat16),
        "empty": jnp.zeros((0, 4)),
    }


def fill(out: pathlib.Path, scores, *, keep: int = 10) -> None:
    """Saves a checkpoint of each step with its score."""
    with Saver(out, keep=keep, start=0) as saver:
        for step, score in scores.items():
            saver.save(step, state(step), {"a": 1}, {"words": ["x", "y"]}, score=score)


def steps(out: pathlib.Path) -> list[int]:
    return [int(path.name) for path in RunFolder(out).checkpoint_paths()]


def assert_is_state_of(step: int, restored) -> None:
    for name, value in state(step).items():
        got = restored[name]
        assert (got.shape, got.dtype) == (value.shape, value.dtype)
        data = (lambda a: jax.random.key_data(a)) if name == "key" else np.asarray
        np.testing.assert_array_equal(data(got), data(value))
