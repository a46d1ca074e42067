"""Histories in fewer bits than the state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq
from jdeq.extend import Space

METHODS = [
    jdeq.Anderson(m=5),
    jdeq.Anderson(m=5, kind=1),
    jdeq.Broyden(),
    jdeq.Broyden(update="bad"),
]


def problem():
    rng = np.random.default_rng(0)
    w = jnp.asarray(rng.normal(size=(64, 64)) / 10, jnp.float32)
    x = jnp.asarray(rng.normal(size=(8, 64)), jnp.float32)
    return (lambda z: jnp.tanh(z @ w + x)), jnp.zeros_like(x)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_the_solution_has_all_the_digits_of_the_state(method):
    """Only the steps are rounded, so the residual falls as far, some iterations later."""
    f, z0 = problem()
    settings = vars(method) | {"tol": 1e-5, "max_iter": 60}
    exact, wide = jdeq.deq(f, z0, solver=type(method)(**settings))
    z, narrow = jdeq.deq(f, z0, solver=type(method)(**settings | {"history_dtype": "bfloat16"}))
    assert z.dtype == jnp.float32 and np.all(narrow.converged)
    np.testing.assert_allclose(z, exact, atol=2e-4)
    assert int(narrow.nfe) <= 1.5 * int(wide.nfe)


def test_the_history_takes_half_the_memory():
    def held(method):
        space, z0 = Space(1), jax.ShapeDtypeStruct((4, 4096), jnp.float32)
        state = jax.eval_shape(lambda z: method.init(space, z), z0)
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))

    for name in (jdeq.Broyden, jdeq.Anderson):
        assert held(name(history_dtype="bfloat16")) < 0.65 * held(name())


@pytest.mark.slow
def test_the_same_dtype_changes_nothing():
    f, z0 = problem()
    for name in ("anderson", "broyden"):
        a = jdeq.deq(f, z0, solver=name)[0]
        b = jdeq.deq(f, z0, solver=name, history_dtype="float32")[0]
        np.testing.assert_array_equal(a, b)


def test_unknown_dtypes_are_named():
    with pytest.raises(ValueError, match="history_dtype must be"):
        jdeq.Broyden(history_dtype="int8")
