"""Penalties now and then, mixed starts, random iterations, and what they are for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq

from ..golden import load_cases

KEY = jax.random.key(0)


def test_a_penalty_is_applied_as_often_as_asked_and_skipped_otherwise():
    calls = []

    def penalty(a):
        jax.debug.callback(lambda: calls.append(1))
        return a**2

    def loss(a, key):
        return jdeq.sometimes(lambda: penalty(a), key, 0.3)

    keys = jax.random.split(KEY, 400)
    values, grads = jax.jit(lambda: jax.lax.map(lambda k: jax.value_and_grad(loss)(3.0, k), keys))()
    jax.effects_barrier()
    applied = int((values == 9).sum())
    assert abs(applied / 400 - 0.3) < 5 * np.sqrt(0.21 / 400)
    assert len(calls) == applied  # what is skipped is not evaluated
    np.testing.assert_array_equal(grads, np.where(values == 9, 6, 0))
    assert set(np.asarray(values)) == {0, 9}


def test_always_and_never_need_no_draw():
    value = lambda freq: jdeq.sometimes(lambda: jnp.ones(2), KEY, freq)
    np.testing.assert_array_equal(value(1), 1)
    np.testing.assert_array_equal(value(0.0), jnp.zeros(2))
    for freq in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="freq"):
            value(freq)


def test_the_weight_grows_in_steps():
    weight = jax.jit(lambda s: jdeq.incremental_weight(s, start=0.1, every=30, increment=0.2))
    steps = jnp.asarray([0, 29, 30, 89, 90])
    np.testing.assert_allclose(weight(steps), [0.1, 0.1, 0.3, 0.5, 0.7], rtol=1e-6)
    np.testing.assert_allclose(jdeq.incremental_weight(60, start=0.0, every=30), 0.2)
    with pytest.raises(ValueError, match="every"):
        jdeq.incremental_weight(0, start=0.1, every=0)


def test_golden_mixed_init():
    for case in load_cases("mixed_init"):
        z = np.asarray(jdeq.mixed_init(jax.random.key(case["seed_offset"]), tuple(case["shape"])))
        n, nonzero = z.size, z[z != 0]
        assert z.shape == tuple(case["shape"]) and n == case["n"]
        within = lambda got, want, error: abs(got - want) < 5 * error
        assert within(np.mean(z == 0), 0.5, 0.5 / np.sqrt(n))
        assert within(z.std(), np.sqrt(0.5), np.sqrt(1.25 / (4 * 0.5 * n)))
        assert within(z.mean(), 0, np.sqrt(0.5 / n))
        assert within(nonzero.std(), 1, 1 / np.sqrt(2 * nonzero.size))
        assert within(nonzero.mean(), 0, 1 / np.sqrt(nonzero.size))


@pytest.mark.slow
def test_mixed_init_of_shapes_arrays_and_trees():
    init = lambda like, *dtype: jdeq.mixed_init(KEY, like, *dtype)
    assert init(3).shape == (3,) and init(()).shape == () and init([2, 3]).shape == (2, 3)
    like = {"a": jnp.zeros((2, 3), jnp.bfloat16), "b": jax.ShapeDtypeStruct((4,), jnp.float32)}
    z = init(like)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), z) == {
        "a": ((2, 3), jnp.bfloat16),
        "b": ((4,), jnp.float32),
    }
    assert init(like, jnp.float32)["a"].dtype == jnp.float32 == init((2,), jnp.float32).dtype
    two = init(((8, 8), (8, 8)))
    assert isinstance(two, tuple) and not np.array_equal(two[0], two[1])
    with pytest.raises(TypeError, match="int32"):
        init((2,), jnp.int32)


def test_random_iterations_are_uniform_and_traced_once():
    counts = np.bincount(
        jax.vmap(lambda k: jdeq.random_max_iter(k, 3, 6))(keys := jax.random.split(KEY, 4000))
    )
    assert counts[:3].sum() == 0 and len(counts) == 7
    np.testing.assert_allclose(counts[3:], 1000, atol=5 * np.sqrt(750))
    traces = []

    @jax.jit
    def steps(key):
        traces.append(1)
        solver = jdeq.FixedPointIter(max_iter=6, tol=1e-12)
        limit = jdeq.random_max_iter(key, 3, 6)
        _, info = jdeq.deq(lambda z: 0.9 * z + 1, jnp.zeros((1, 1)), solver=solver, max_iter=limit)
        return info.nfe - 1, limit

    for key in keys[:8]:
        made, asked = steps(key)
        assert made == asked
    assert len(traces) == 1 and jdeq.random_max_iter(KEY, 4, 4) == 4
    for bad, name in (((-1, 3), "low"), ((4, 3), "high")):
        with pytest.raises(ValueError, match=name):
            jdeq.random_max_iter(KEY, *bad)


GAIN = jnp.array([[0.5], [0.5], [3.0], [3.0]])


def bistable(z):
    return jnp.tanh(GAIN * z + 0.01)


@pytest.mark.parametrize("starts", ["noise", "mixed"])
def test_path_dependence_shows_in_the_samples_that_have_it(starts):
    score = jax.jit(
        lambda key: jdeq.path_independence(
            bistable, jnp.ones((4, 1)), key, starts=starts, n_starts=16, max_iter=200, tol=1e-6
        )
    )
    found = score(KEY)
    assert found.converged.all()
    np.testing.assert_allclose(found.alignment[:2], 1, atol=1e-6)
    np.testing.assert_allclose(found.distance[:2], 0, atol=1e-4)
    assert np.all(found.alignment[2:] < 0.9) and np.all(found.distance[2:] > 1.9)


@pytest.mark.slow
def test_starting_at_the_solutions_of_others():
    start = jnp.array([[1.0], [1.0], [1.0], [-1.0]])
    score = lambda key, z0: jdeq.path_independence(bistable, z0, key, max_iter=200, tol=1e-6)
    mixed = [score(k, start).alignment for k in jax.random.split(KEY, 12)]
    assert np.min(mixed, 0)[2] < -0.99 and np.max(mixed, 0)[3] < -0.99  # never its own start
    same = score(KEY, jnp.ones((4, 1)))
    np.testing.assert_allclose(same.alignment, 1, atol=1e-6)


def test_scores_of_solves_that_did_not_arrive_are_marked():
    assert not jdeq.path_independence(bistable, jnp.ones((4, 1)), KEY, max_iter=1).converged.any()


@pytest.mark.slow
def test_solutions_of_zero_are_aligned():
    found = jdeq.path_independence(
        lambda z: 0 * z, jnp.ones((2, 3)), KEY, starts="noise", stop_mode="abs"
    )
    np.testing.assert_array_equal(found.alignment, 1)
    np.testing.assert_array_equal(found.distance, 0)


@pytest.mark.slow
def test_what_path_independence_refuses():
    score = lambda z, **how: jdeq.path_independence(lambda z: 0.5 * z, z, KEY, **how)
    with pytest.raises(ValueError, match="starts"):
        score(jnp.ones((2, 3)), starts="zeros")
    with pytest.raises(ValueError, match="n_starts"):
        score(jnp.ones((2, 3)), n_starts=0)
    for alone in ({"z": jnp.ones((1, 3))}, {"z": jnp.ones(3), "batch_dims": 0}):
        with pytest.raises(ValueError, match="two samples"):
            score(**alone)
    with pytest.raises(TypeError, match="maxiter"):
        score(jnp.ones((2, 3)), maxiter=3)
