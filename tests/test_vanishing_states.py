"""Solutions that are 0, or next to nothing beside the start, by relative residuals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq

pytestmark = pytest.mark.slow

SOLVERS = ("fixed_point_iter", "anderson", "broyden", "newton", "fallback")
W = 0.8 * jax.random.orthogonal(jax.random.key(0), 8)
Z0 = jnp.linspace(0.03, 0.1, 32, dtype=jnp.float32).reshape(4, 8)


def maps(z):
    """A map per sample: slow, linear, of second order, repelling."""
    first, second, third, fourth = z
    slow = jnp.tanh(first @ W.astype(z.dtype))
    return jnp.stack([slow, 0.5 * second, 0.3 * third * third, -2 * jnp.sin(fourth)])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("solver", SOLVERS)
def test_zero_is_found_exactly(solver, dtype):
    settings = {"max_iter": 150 * (1 + 2 * (solver == "fallback"))}
    z, info = jdeq.deq(maps, Z0.astype(dtype), solver=solver, **settings)
    found = slice(3 if solver == "fixed_point_iter" else 4)  # which does not go where f repels
    assert np.all(info.converged[found]) and np.all(np.asarray(z)[found] == 0)
    assert np.all(np.asarray(info.rel_residual)[found] == 0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_solution_that_is_next_to_nothing_is_no_zero(solver):
    b = jnp.asarray([1e-20, 1e-12, 1], jnp.float32)[:, None]
    z, info = jdeq.deq(lambda z: 0.5 * z + b, jnp.ones_like(b), solver=solver, max_iter=150)
    assert np.all(info.converged)
    np.testing.assert_allclose(z / b, 2, rtol=1e-4)


@pytest.mark.parametrize("solver", ["fixed_point_iter", "anderson", "broyden"])
def test_a_derivative_goes_through_zero(solver):
    """dz*/db = 1 / (1 - 0.5) at b = 0, where the state was set to 0 on the way."""

    def solution(b):
        f = lambda z: 0.5 * z + b
        return jdeq.deq(f, jnp.ones((1, 1)), solver=solver, max_iter=60, backward="unroll")[0].sum()

    assert solution(0.0) == 0
    np.testing.assert_allclose(jax.grad(solution)(0.0), 2, rtol=1e-5)
