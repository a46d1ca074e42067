"""`tol=0`: no residual is small enough, so that the number of iterations is fixed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq
from jdeq import Status

B = jnp.linspace(0.5, 1, 6).reshape(2, 3)
f = lambda z: 0.5 * z + B  # exactly solved long before the last iteration
SOLVERS = ["fixed_point_iter", "anderson", "broyden"]


@pytest.mark.slow
@pytest.mark.parametrize("solver", [*SOLVERS, "newton", "fallback"])
def test_all_iterations_are_made(solver):
    z, info = jdeq.deq(f, jnp.zeros_like(B), solver=solver, tol=0, max_iter=72)
    np.testing.assert_array_equal(info.status, Status.MAX_ITER)
    assert info.nfe >= 73 and info.abs_trace.shape == (2, 72)
    np.testing.assert_allclose(z, 2 * B, rtol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
def test_as_a_value_and_by_configuration(solver):
    solve = jax.jit(lambda tol: jdeq.deq(f, jnp.zeros_like(B), solver=solver, tol=tol)[1].nfe)
    assert solve(jnp.asarray(0.0)) == 51 > solve(jnp.asarray(1e-6))
    config = jdeq.DEQConfig(f_solver=solver, f_tol=0, f_max_iter=72, ift=True, b_tol=0)
    config.check_dtype("bfloat16")
    info = jdeq.get_deq(config)(f, jnp.zeros_like(B))[1]
    assert info.nfe == 73 and not np.any(info.converged)


@pytest.mark.slow
@pytest.mark.parametrize("solver", [*SOLVERS, "gmres", "bicgstab", "cg", "neumann"])
def test_backward(solver):
    seen = []
    backward = jdeq.IFT(solver, tol=0, max_iter=60, callback=lambda info: seen.append(info))
    loss = lambda b: jdeq.deq(lambda z: 0.5 * z + b, jnp.zeros_like(b), backward=backward)[0].sum()
    np.testing.assert_allclose(jax.grad(loss)(B), 2, rtol=1e-9)
    jax.effects_barrier()
    assert len(seen) == 1 and not np.any(seen[0].converged)
    if solver in SOLVERS:
        assert np.all(seen[0].nfe == 61)
