"""Solvers in turn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq
from jdeq import Status

from ..tolerances import rounding

RATE = jnp.array([[0.1], [-3.0], [0.5], [-7.0]])  # plain iteration solves two of these
f = lambda z: RATE * z + 1
START = jnp.zeros((4, 2))
FIRST = jdeq.FixedPointIter(max_iter=30, tol=1e-6)
BOTH = jdeq.Fallback((FIRST, jdeq.Broyden(max_iter=20, tol=1e-6)), tol=1e-6)


def test_the_rest_goes_to_the_next_solver_and_the_converged_stay():
    z, info = jax.jit(lambda z: jdeq.deq(f, z, solver=BOTH))(START)
    alone, first = jdeq.deq(f, START, solver=FIRST)
    np.testing.assert_array_equal(first.converged, [True, False, True, False])
    np.testing.assert_array_equal(info.converged, True)
    np.testing.assert_allclose(z, jnp.broadcast_to(1 / (1 - RATE), z.shape), rtol=1e-5)
    solved = np.asarray(first.converged)
    close = rounding(z.dtype, terms=2 * 30)
    np.testing.assert_allclose(z[solved], alone[solved], rtol=close)
    np.testing.assert_array_equal(info.steps[solved], first.steps[solved])
    assert np.all(info.steps[~solved] > 30)  # counted on from the first solver's 30


def test_traces_count_on():
    _, info = jdeq.deq(f, START, solver=BOTH)
    assert info.abs_trace.shape == (4, 50)
    for i in range(4):
        np.testing.assert_allclose(info.abs_trace[i, info.steps[i] - 1], info.abs_residual[i])
    assert np.all(info.abs_trace[0, info.steps[0] :] == info.abs_residual[0])


def test_evaluations_are_those_of_each_sample():
    calls = []

    def counted(z):
        jax.debug.callback(lambda: calls.append(1))
        return 0.5 * z + 1

    _, info = jdeq.deq(counted, jnp.zeros((2, 1)), solver=BOTH)
    jax.effects_barrier()
    assert len(calls) == info.nfe == info.steps.max() + 1  # the second stage evaluates nothing


@pytest.mark.slow
def test_vmap_gradient_and_states():
    one = lambda rate: jdeq.deq(
        lambda z: rate * z + 1, jnp.zeros(2), solver=BOTH, batch_dims=0, indexing=(2, 35)
    )
    z, info = jax.vmap(one)(RATE[:, 0])
    np.testing.assert_allclose(z, jnp.broadcast_to(1 / (1 - RATE), z.shape), rtol=1e-5)
    assert len(info.states) == 3
    slope = jax.vmap(jax.grad(lambda rate: one(rate)[0].sum()))(RATE[:, 0])
    np.testing.assert_allclose(slope, 2 / (1 - RATE[:, 0]) ** 2, rtol=1e-4)


@pytest.mark.slow
def test_by_name_the_iterations_are_shared():
    solver = jdeq.Fallback(("anderson", "broyden"), max_iter=41, tol=1e-4)
    assert [s.max_iter for s in solver.stages] == [21, 20]
    assert [s.max_iter for s in jdeq.Fallback().stages] == [50, 50, 50]
    z, info = jdeq.deq(f, START, solver="fallback", max_iter=40, tol=1e-5)
    assert np.all(info.converged)


def test_a_run_time_limit_counts_over_the_stages():
    limited = lambda n: jdeq.deq(lambda z: z + 1, START, solver=BOTH, max_iter=jnp.asarray(n))[1]
    for n in (0, 10, 30, 35):
        info = limited(n)
        assert np.all(info.status == Status.MAX_ITER)
        assert info.nfe == n + 1 + (n > 30)  # the second stage measures where it starts


@pytest.mark.slow
def test_by_default_the_last_word_is_newtons():
    """Plain iteration wanders, Anderson and Broyden fail, on tanh of 4 times a rotation."""
    w = 4 * jax.random.orthogonal(jax.random.key(0), 32)
    x = jax.random.normal(jax.random.key(1), (8, 32))
    wandering = lambda z: jnp.tanh(z @ w + 0.1 * x)
    alone = [jdeq.deq(wandering, jnp.zeros_like(x), solver=s)[1] for s in ("anderson", "broyden")]
    z, info = jdeq.deq(wandering, jnp.zeros_like(x), solver="fallback")
    assert not np.any([i.converged for i in alone]) and np.all(info.converged)
    np.testing.assert_allclose(z, wandering(z), atol=1e-3)
    with pytest.raises(ValueError, match="Newton cannot be unrolled"):
        jdeq.deq(wandering, x, solver="fallback", backward="unroll")


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 4, 100])
@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)])
def test_nothing_to_solve(shape, every):
    """An empty batch, and samples of no numbers, pass through every stage."""
    stages = (jdeq.FixedPointIter(max_iter=9, check_every=every), jdeq.Broyden(max_iter=8))
    z, info = jdeq.deq(lambda z: 0.5 * z, jnp.zeros(shape), solver=jdeq.Fallback(stages))
    assert z.shape == shape and info.status.shape == shape[:1]
    assert info.abs_trace.shape == (shape[0], 17) and (info.nfe == 0) == (shape[0] == 0)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"solvers": ()}, "at least one solver"),
        ({"solvers": ("newtn",)}, "unknown solver 'newtn'"),
        ({"solvers": (FIRST, "broyden"), "tol": 1e-3}, "agree on tol"),
        ({"solvers": (FIRST,), "max_iter": 7, "tol": 1e-6}, "make 30 iterations"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        jdeq.Fallback(**settings)
