"""Options are checked and reach what they are for, unlike in TorchDEQ 0.1.0."""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq

from .problems import halving, solve

pytestmark = pytest.mark.slow


def test_misspelt_options_raise():
    """TorchDEQ: f_max_iters=3 is accepted, and f_max_iter stays 40."""
    with pytest.raises(TypeError, match="f_max_iters"):
        jdeq.DEQConfig(f_max_iters=3)  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match="f_max_iters"):
        jdeq.DEQConfig.from_dict({"f_max_iters": 3})
    with pytest.raises(TypeError, match="max_iters.*did you mean 'max_iter'"):
        jdeq.deq(halving, jnp.zeros(1), max_iters=3)


def test_the_callers_options_are_left_alone():
    """TorchDEQ: get_deq(options, f_max_iter=7) writes into the caller's dict."""
    options = {"f_solver": "anderson", "indexing": [3, 6]}
    config = jdeq.DEQConfig.from_dict(options)
    assert options == {"f_solver": "anderson", "indexing": [3, 6]}
    assert config.indexing == (3, 6)
    namespace = argparse.Namespace(f_max_iter=7, lr=0.1)
    assert jdeq.DEQConfig.from_args(namespace).f_max_iter == 7
    assert vars(namespace) == {"f_max_iter": 7, "lr": 0.1}


def test_tol_and_stop_mode_reach_the_solver():
    """TorchDEQ: tol and stop_mode among the solver's options raise a TypeError."""
    config = jdeq.DEQConfig(f_tol=1e-2, f_stop_mode="abs", b_tol=1e-3, b_stop_mode="abs", ift=True)
    assert config.solver() == jdeq.FixedPointIter(max_iter=40, tol=1e-2, stop_mode="abs")
    want = jdeq.FixedPointIter(max_iter=40, tol=1e-3, stop_mode="abs")
    backward = config.backward()
    assert isinstance(backward, jdeq.IFT) and backward.backward_solver == want
    _, info = solve(halving, jnp.zeros((1, 1)), tol=1e-2, stop_mode="abs")
    np.testing.assert_array_equal(info.steps, [7])  # 2^-7 < 1e-2


@pytest.mark.parametrize(
    "solver, options, want",
    [
        ("anderson", {"m": 1}, 2 - 2.0**-4),
        ("anderson", {"m": 1, "tau": 0.5}, 2 - 0.75**4),
        ("broyden", {"memory": 1}, 2 - 2.0**-4),
        ("fixed_point_iter", {"tau": 0.5}, 2 - 2 * 0.75**5),
    ],
)
def test_solver_options_reach_the_solver(solver, options, want):
    """TorchDEQ: m, lam, tau and memory given to get_deq are ignored."""
    z, _ = solve(halving, jnp.zeros((1, 1)), solver=solver, max_iter=5, **options)
    np.testing.assert_allclose(z, want, rtol=1e-12)


def test_the_backward_solver_takes_options_too():
    """TorchDEQ: none but max_iter, tol and stop_mode can be given to b_solver."""
    backward = jdeq.IFT(jdeq.FixedPointIter(tau=0.5, max_iter=3, tol=1e-12))

    def solution(a):
        return jdeq.deq(lambda z: 0.5 * z + a, jnp.zeros((1, 1)), backward=backward)[0].sum()

    slope = jax.jit(jax.grad(solution))(1.0)  # of 2a, after three damped steps from 1
    np.testing.assert_allclose(slope, 2 - 0.75**3, rtol=1e-12)
