"""Each sample stops where its tolerance is met, and says so, unlike in TorchDEQ 0.1.0."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq
from jdeq import Status

from .problems import Tanh, each_solver, halving, solve

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("tau", [1.0, 0.1, 0.01])
def test_damping_does_not_loosen_the_tolerance(tau):
    """TorchDEQ: tol=1e-3 leaves a residual of 9.1e-3 with tau=0.1, and of 0.099 with tau=0.01."""
    solver = jdeq.FixedPointIter(tau=tau, tol=1e-3, stop_mode="abs", max_iter=3000)
    z, info = solve(halving, jnp.zeros((1, 1)), solver=solver)
    assert info.converged.all()
    assert abs(halving(z) - z) < 1e-3
    steps = np.ceil(np.log(1e-3) / np.log(1 - tau / 2))
    np.testing.assert_array_equal(info.steps, [steps])


def test_residuals_above_1e8_count():
    """TorchDEQ: residuals start from a sentinel of 1e8; whatever is above, z0 comes back."""
    z, info = solve(lambda z: 0.5 * z + 1e12, jnp.zeros((1, 1)), max_iter=9)
    np.testing.assert_allclose(z, 2e12 * (1 - 2.0**-9))
    np.testing.assert_allclose(info.abs_residual, 1e12 * 2.0**-9)
    np.testing.assert_array_equal(info.steps, [9])


@each_solver
def test_a_vector_is_one_problem_with_batch_dims_0(solver):
    """TorchDEQ: a vector is always 32 scalar problems; Broyden then ends in NaN."""
    p = Tanh(size=32, radius=0.6, batch=1)
    options = {"solver": solver, "tol": 1e-10, "max_iter": 100}
    f = lambda z: jnp.tanh(p.w @ z + p.x[0])
    z, info = solve(f, p.z0[0], batch_dims=0, **options)
    _, batch_of_one = solve(functools.partial(p.f, p.w), p.z0, **options)
    assert info.converged.shape == () and info.converged
    assert info.steps == batch_of_one.steps[0]
    np.testing.assert_allclose(z, p.solution()[0], rtol=0, atol=1e-8)


def test_each_sample_stops_by_itself():
    """TorchDEQ: samples that need 7, 11, 21 and 31 steps are all run for 31."""
    gain = np.array([0.2, 0.5, 0.8, 0.95])
    f = lambda z: gain[:, None] * z + 1
    z, info = solve(f, jnp.zeros((4, 1)), tol=1e-4, stop_mode="abs", max_iter=200)
    steps = np.ceil(np.log(1e-4) / np.log(gain))  # the residual is gain^k
    np.testing.assert_array_equal(info.steps, steps)
    np.testing.assert_allclose(z[:, 0], (1 - gain**steps) / (1 - gain), rtol=1e-12)
    changes = np.sum(info.abs_trace != info.abs_residual[:, None], -1)
    np.testing.assert_array_equal(changes + 1, steps)  # held from there on
    np.testing.assert_array_equal(info.nfe, steps.max() + 1)


@each_solver
def test_a_broken_sample_does_not_keep_the_others_running(solver):
    """TorchDEQ: one NaN sample makes all the others run to the cap of 40."""
    broken = jnp.array([[True], [False], [False]])
    f = lambda z: jnp.where(broken, jnp.nan, halving(z))
    z, info = solve(f, jnp.zeros((3, 1)), solver=solver, tol=1e-6, max_iter=40)
    np.testing.assert_array_equal(
        info.status, [Status.NONFINITE, Status.CONVERGED, Status.CONVERGED]
    )
    np.testing.assert_allclose(z[:, 0], [0, 2, 2], atol=1e-5)
    assert info.nfe <= 21  # plain iteration: 2^-20 < 1e-6


@pytest.mark.parametrize("start", [[0.0], [0.0, 0.4]], ids=["B=1", "B=2"])
def test_the_tolerance_holds_beyond_30_iterations(start):
    """TorchDEQ: from Broyden's step 31 on, a batch of one stops at 1.9e-3 for a tol of 1e-3."""
    z0 = jnp.array(start)[:, None]
    solver = jdeq.Broyden(tau=0.05, tol=1e-3, stop_mode="abs", max_iter=300)
    z, info = solve(lambda z: 2 - 3 * z, z0, solver=solver)
    first = 0.8 * np.abs(2 - 4 * z0[:, 0])  # after one step; from then on 5 percent per step
    steps = 1 + np.ceil(np.log(1e-3 / first) / np.log(0.95))
    assert info.converged.all()
    np.testing.assert_array_equal(info.steps, steps)
    assert (steps > 100).all() and (np.abs(2 - 4 * z) < 1e-3).all()


@each_solver
def test_a_solve_that_fails_says_so(solver, capfd):
    """TorchDEQ: no flag, no warning; the residual 1.41 is one number among others."""
    f = lambda z: jnp.where(z < 0.5, 1.0, 0.0)  # jumps over the diagonal: no fixed point
    z0 = jnp.zeros((2, 2))
    _, info = solve(f, z0, solver=solver, max_iter=20, on_failure="warn")
    assert not info.converged.any() and (info.abs_residual > 0.1).all()
    jax.effects_barrier()
    assert "2 of 2 samples did not converge" in capfd.readouterr().err
