"""Plain iteration of a fixed length works in every role, unlike in TorchDEQ 0.1.0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq

from .problems import SOLVERS, solve

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("solver", ["simple_fixed_point_iter", *SOLVERS])
def test_no_iterations_and_an_unrolled_gradient(solver):
    """TorchDEQ: simple_fixed_point_iter with core="indexing" returns an empty list."""

    def last(a):
        backward = jdeq.PhantomGrad(12)
        z, info = jdeq.deq(
            lambda z: 0.5 * z + a, jnp.zeros(1), solver=solver, max_iter=0, backward=backward
        )
        return z.sum(), info

    (value, info), slope = jax.jit(jax.value_and_grad(last, has_aux=True))(3.0)
    np.testing.assert_allclose([value, slope], [6 - 6 * 2.0**-12, 2 - 2 * 2.0**-12], rtol=1e-12)
    np.testing.assert_allclose(info.abs_residual, 3 * 2.0**-12, rtol=1e-9)


def test_simple_fixed_point_iter_takes_plain_functions():
    """TorchDEQ: its own example fails, f has to accept tau."""
    z, _ = solve(jnp.cos, jnp.zeros((1,)), solver="simple_fixed_point_iter", max_iter=100)
    np.testing.assert_allclose(z, 0.7390851332151607, rtol=1e-12)


def test_simple_fixed_point_iter_as_backward_solver_and_with_two_variables():
    """TorchDEQ: a TypeError as b_solver, an AttributeError with two variables and ift."""
    simple = jdeq.SimpleFixedPointIter(max_iter=60)

    def total(a):  # u = v / 2 + a, v = u / 2: u = 4a/3, v = 2a/3
        f = lambda z: (0.5 * z[1] + a, 0.5 * z[0])
        z0 = jnp.zeros(1), jnp.zeros(1)
        u, v = jdeq.deq(f, z0, solver=simple, backward=jdeq.IFT(simple))[0]
        return (u + v).sum()

    value, slope = jax.jit(jax.value_and_grad(total))(3.0)
    np.testing.assert_allclose([value, slope], [6.0, 2.0], rtol=1e-12)
