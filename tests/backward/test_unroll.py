"""Gradients through the iterations on half-precision states."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq

from ..machine import needs_float16

pytestmark = needs_float16


def slope(a, b, dtype, solver):
    a, b = jnp.asarray(a, dtype), jnp.asarray(b, dtype)

    def loss(b):
        f = lambda z: z @ a.T + b
        z, info = jdeq.deq(f, jnp.zeros_like(b), solver=solver, backward="unroll")
        return jnp.sum(z.astype("float32")), info

    gradient, info = jax.grad(loss, has_aux=True)(b)
    return np.asarray(gradient, np.float64), np.asarray(info.converged)


@pytest.mark.slow
@pytest.mark.parametrize("solver", [jdeq.Anderson, jdeq.Broyden])
def test_finite_where_the_inverse_is_not_in_range(solver):
    """It has entries of 1e6, more than float16 can hold."""
    a, b = np.eye(6) * 0.9 + np.eye(6, k=1), np.random.default_rng(0).normal(size=(100, 6))
    gradient, _ = slope(a, b, "float16", solver(tol=1e-2, max_iter=30))
    assert np.all(np.isfinite(gradient))


@pytest.mark.slow
def test_right_where_it_fits():
    a, b = 0.3 * np.eye(6) + 0.2 * np.eye(6, k=1), np.ones((4, 6))
    gradient, converged = slope(a, b, "float16", jdeq.Anderson(tol=3e-3, max_iter=20))
    assert converged.all()
    np.testing.assert_allclose(gradient, np.ones((4, 6)) @ np.linalg.inv(np.eye(6) - a), rtol=2e-2)


@pytest.mark.slow
def test_forward_mode_and_keys():
    key = jax.random.key(0)

    def total(b):
        f = lambda z: 0.5 * z + b + 0 * jax.random.normal(key, z.shape, z.dtype)
        z, _ = jdeq.deq(f, jnp.zeros((2, 3), "float16"), backward="unroll", max_iter=20)
        return jnp.sum(z)

    one = jnp.ones((), "float16")
    np.testing.assert_allclose(jax.jvp(total, (one,), (one,))[1], 12, rtol=1e-2)
    np.testing.assert_allclose(jax.grad(total)(one), 12, rtol=1e-2)
