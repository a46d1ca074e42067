"""Empty batches, no iterations, and every integer as their number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq

SOLVER_NAMES = ["fixed_point_iter", "simple_fixed_point_iter", "anderson", "broyden"]


@pytest.mark.parametrize("solver", SOLVER_NAMES)
def test_an_empty_batch_is_solved(solver):
    def total(a):
        z, info = jdeq.deq(lambda z: a * z, jnp.zeros((0, 3)), solver=solver, max_iter=5)
        return z.sum(), (z, info)

    slope, (z, info) = jax.jit(jax.grad(total, has_aux=True))(0.5)
    assert z.shape == (0, 3)
    assert info.status.shape == info.abs_residual.shape == info.steps.shape == (0,)
    assert info.abs_trace.shape == (0, 5)
    assert info.nfe == 0 and slope == 0
    assert repr(info) == "SolverInfo(<empty batch>)"


@pytest.mark.parametrize("solver", SOLVER_NAMES)
def test_no_iterations_measure_z0(solver):
    z, info = jdeq.deq(lambda z: 0.5 * z, jnp.full((2, 1), 4.0), solver=solver, max_iter=0)
    np.testing.assert_array_equal(z, [[4.0], [4.0]])
    np.testing.assert_allclose(info.abs_residual, 2)
    np.testing.assert_allclose(info.rel_residual, 1)
    np.testing.assert_array_equal(info.status, [jdeq.Status.MAX_ITER] * 2)
    assert info.nfe == 1 and info.abs_trace.shape == (2, 0)


@pytest.mark.parametrize("dtype", ["int16", "int32", "int64", "uint8"])
def test_iterations_at_run_time_are_integers_of_any_width(dtype):
    solve = jax.jit(lambda limit: jdeq.deq(lambda z: 0.5 * z + 1, jnp.zeros(1), max_iter=limit))
    z, info = solve(jnp.array(3, dtype))
    np.testing.assert_array_equal(z, [1.75])
    np.testing.assert_array_equal(info.steps, [3])
