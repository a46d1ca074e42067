"""Solves in slices, and steps of the phantom gradient for each sampled state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq
from jdeq._sliced import slice_lengths

RATE = 0.5
F = lambda a: lambda z: RATE * z + a  # from 0 to 2 a, half of the way at each application


def states(a=1.0, **options):
    z, info = jdeq.get_deq(f_tol=1e-12, **options)(F(a), jnp.zeros((1, 1)))
    return jnp.stack(info.states)[:, 0, 0]


def reached(n):
    return 2 * (1 - RATE**n)


@pytest.mark.parametrize(
    "max_iter, n_states, indexing, lengths",
    [(10, 3, None, [4, 3, 3]), (9, 3, None, [3, 3, 3]), (10, 1, (3, 6), [3, 3, 4])],
)
def test_no_iteration_is_lost(max_iter, n_states, indexing, lengths):
    assert slice_lengths(max_iter, n_states, indexing) == lengths


@pytest.mark.slow
@pytest.mark.parametrize(
    "options, applications",
    [
        ({}, (5, 5 + 4, 9 + 4)),  # slices of 4, 3, 3 and a phantom step each
        ({"grad": (2, 1, 3)}, (6, 10, 16)),
        ({"grad": 2, "sup_gap": 1}, (5, 6, 10, 11, 15, 16)),
        ({"grad": (2, 1), "ift": True}, (6, 10, 13)),
        ({"grad_type": "jfb"}, (4, 7, 10)),
        ({"core": "indexing", "grad": (2, 1, 3)}, (6, 8, 13)),
        ({"core": "indexing", "grad": (2, 1), "ift": True}, (6, 8, 10)),
        ({"core": "indexing", "grad": 2, "sup_loc": (1,)}, (6, 9, 11, 12)),
    ],
)
def test_where_the_states_are(options, applications):
    got = states(**{"core": "sliced", "n_states": 3, "f_max_iter": 10} | options)
    np.testing.assert_allclose(got, [reached(n) for n in applications], rtol=1e-12)


@pytest.mark.slow
def test_no_gradient_passes_from_slice_to_slice():
    """Each state has the slope of its own phantom steps, here 1, 1 + 1/2 and 1."""
    options = {"core": "sliced", "n_states": 3, "f_max_iter": 6, "grad": (1, 2, 1)}
    slopes = jax.jacrev(lambda a: states(a, **options))(1.0)
    np.testing.assert_allclose(slopes, [1, 1.5, 1], rtol=1e-12)
    last = jax.jacrev(lambda a: states(a, **options | {"ift": True, "grad": (1, 2)}))(1.0)
    np.testing.assert_allclose(last, [1, 1.5, 2], rtol=1e-5)


def test_a_converged_solve_goes_on_at_no_cost():
    layer = jdeq.get_deq(core="sliced", n_states=3, f_max_iter=90, f_tol=1e-3)
    z, info = layer(F(1.0), jnp.zeros((1, 1)))
    assert len(info.states) == 3 and bool(info.converged[0])
    assert (
        int(info.nfe) == 11 + 1 + 1 + 3 * 2
    )  # the first slice, then one look each; steps, measured
    assert info.abs_trace.shape == (1, 90)


def test_a_run_time_limit_counts_over_all_slices():
    traces = []

    @jax.jit
    def last(limit):
        traces.append(1)
        layer = jdeq.get_deq(core="sliced", n_states=2, f_max_iter=8, f_tol=1e-12)
        z, info = layer(F(1.0), jnp.zeros((1, 1)), max_iter=limit)
        return z[0, 0], info.nfe

    for limit, applications in ((0, 2), (3, 5), (6, 8), (20, 10)):
        z, nfe = last(jnp.asarray(limit))
        np.testing.assert_allclose(z, reached(applications), rtol=1e-12)
        assert nfe == min(limit, 8) + 2 + 2 * 2  # each slice ends with a step, measured
    assert len(traces) == 1


def test_evaluation_is_one_solve():
    layer = jdeq.get_deq(core="sliced", n_states=2, f_max_iter=4, eval_factor=2.0)
    z, info = layer(F(1.0), jnp.zeros((1, 1)), train=False)
    assert info.states == () and info.abs_trace.shape == (1, 8) and info.nfe == 9


def test_steps_must_fit_the_states():
    backward = jdeq.PhantomGrad(2, state_steps=(1, 1))
    with pytest.raises(ValueError, match="state_steps=.* one number per state .*: 1"):
        jdeq.deq(F(1.0), jnp.zeros((1, 1)), backward=backward, n_states=2)
    with pytest.raises(ValueError, match="state_steps must be >= 1"):
        jdeq.PhantomGrad(2, state_steps=(0,))
