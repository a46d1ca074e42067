"""Long histories: written and read in parts, on a CPU and on an accelerator."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq
from jdeq.extend import Space
from jdeq.solvers.parts import filled, history
from jdeq.solvers.parts.history import History

SPACE = Space(1)


def vectors(size, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)
    return [(draw(3, 4), draw(3, 2, 2)) for _ in range(size)]


def written(write, size, dtype):
    chunk = SPACE.history(vectors(1)[0], size, dtype)
    for slot, x in enumerate(vectors(size + 4)):
        chunk = write(SPACE, size, chunk, x, jnp.int32(slot - 2))
    return chunk


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_with_and_without_a_branch_a_part_holds_the_same(dtype):
    """What belongs to another part, before or after, changes nothing."""
    by_branch = written(history._write_by_branch, 5, dtype)
    masked = written(history._write_masked, 5, dtype)
    jax.tree.map(np.testing.assert_array_equal, masked, by_branch)
    inside = jnp.stack([x[0] for x in vectors(9)[2:7]], 1)
    np.testing.assert_array_equal(by_branch[0], inside.astype(by_branch[0].dtype))


def branches(method, shape, platform):
    """How often the program of a solve asks which way to go."""
    w = jnp.zeros((shape[-1],) * 2, jnp.float32)
    run = lambda z0: jdeq.deq(lambda z: jnp.tanh(z @ w + 1), z0, solver=method)[0]
    arg = jax.ShapeDtypeStruct(shape, jnp.float32)
    text = jax.export.export(jax.jit(run), platforms=[platform])(arg).mlir_module()
    # a choice by platform is one too, but of a constant
    values = re.findall(r"(%\d+) = stablehlo\.convert ", text)
    return sum(index in values for index in re.findall(r'"stablehlo\.case"\((%\w+)\)', text))


@pytest.mark.parametrize("update", ["good", "bad"])
def test_an_accelerator_is_not_asked_where_a_history_ends(update, monkeypatch):
    method = jdeq.Broyden(max_iter=40, update=update)
    shape = (64, 1024)  # 10 MB: cut into parts here, and whole there
    assert branches(method, shape, "cpu") > 0
    assert branches(method, shape, "cuda") == 0
    monkeypatch.setattr(history.jax, "default_backend", lambda: "gpu")
    assert branches(method, shape, "cuda") == 0


def test_an_accelerator_reads_no_large_part_that_is_empty(monkeypatch):
    monkeypatch.setattr(history.jax, "default_backend", lambda: "gpu")
    method = jdeq.Broyden(max_iter=40)
    assert branches(method, (2**14, 1024), "cuda") == 2  # its second part, read twice


@pytest.mark.parametrize("limit", [1, 2**60])
def test_what_is_skipped_changes_nothing(monkeypatch, limit):
    """Neither where a history is cut nor from where on a branch is worth asking for."""
    x, size = vectors(1)[0], 20
    monkeypatch.setattr(history, "WHOLE", limit)
    monkeypatch.setattr(filled, "WORTH_ASKING", limit)
    stored = History.empty(SPACE, x, size)
    for slot, x in enumerate(vectors(7)):
        stored = stored.write(SPACE, jnp.int32(slot), x)
    dots = stored.dots(SPACE, x, jnp.int32(7))
    right = np.zeros((3, size))
    for slot, other in enumerate(vectors(7)):
        right[:, slot] = SPACE.dot(other, x)
    np.testing.assert_allclose(dots, right, atol=1e-5)
    total = stored.accumulate(SPACE, dots, jnp.int32(7))
    whole = sum(right[:, slot, None] * np.asarray(v[0]) for slot, v in enumerate(vectors(7)))
    np.testing.assert_allclose(total[0], whole, atol=1e-4)
