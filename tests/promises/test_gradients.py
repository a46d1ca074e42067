"""Implicit gradients are exact, whatever the solver and the scale of the loss."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.test_util import check_grads

import jdeq

from ..machine import needs_float16
from ..problems import matrix, tanh_system
from .solvers import STOPPING, TIGHT


@functools.partial(jax.jit, static_argnames="solver")
def affine_solution(w, u, b, x, *, solver):
    f = lambda z: z @ w.T + x @ u.T + b[None]
    backward = jdeq.IFT(solver=solver)
    return jdeq.deq(f, jnp.zeros((4, 16)), solver=solver, backward=backward)[0]


@functools.partial(jax.jit, static_argnames="solver")
@functools.partial(jax.grad, argnums=(0, 1, 2, 3))
def affine_gradients(w, u, b, x, weight, *, solver):
    return jnp.sum(affine_solution(w, u, b, x, solver=solver) * weight)


@pytest.mark.parametrize(
    "radius",
    [pytest.param(0.5, marks=pytest.mark.slow), 0.9, pytest.param(0.99, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("solver", TIGHT)
def test_affine_system_and_its_gradients_are_exact(solver, radius):
    rng = np.random.default_rng(2)
    shapes = ((16, 10), (16,), (4, 10))
    params = (matrix(16, radius), *(rng.normal(size=s) for s in shapes))
    weight = rng.normal(size=(4, 16))
    w, u, b, x = params
    z = np.linalg.solve(np.eye(16) - w, (x @ u.T + b).T).T
    y = np.linalg.solve((np.eye(16) - w).T, weight.T).T
    want = y.T @ z, y.T @ x, y.sum(0), y @ u
    params = tuple(map(jnp.asarray, params))
    np.testing.assert_allclose(affine_solution(*params, solver=TIGHT[solver]), z, atol=1e-9)
    grads = affine_gradients(*params, weight, solver=TIGHT[solver])
    for got, expected in zip(grads, want, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("solver", TIGHT)
def test_gradient_of_a_coupled_tanh_network_is_the_dense_one(solver):
    f, params, z0 = tanh_system()
    flat0, unravel = ravel_pytree(z0)

    def loss(p):
        z, _ = jdeq.deq(
            lambda z: f(p, z), z0, solver=TIGHT[solver], backward=jdeq.IFT(solver=TIGHT[solver])
        )
        return jnp.sum(z["a"] ** 2) + jnp.sum(z["b"] ** 3)

    flat_f = lambda p, v: ravel_pytree(f(p, unravel(v)))[0]
    v = flat0
    for _ in range(50):  # Newton with the dense Jacobian
        v = v - jnp.linalg.solve(
            jax.jacobian(flat_f, 1)(params, v) - jnp.eye(v.size), flat_f(params, v) - v
        )
    cotangent = jax.grad(lambda v: jnp.sum(unravel(v)["a"] ** 2) + jnp.sum(unravel(v)["b"] ** 3))
    jacobian = jax.jacobian(flat_f, 1)(params, v)
    y = jnp.linalg.solve((jnp.eye(v.size) - jacobian).T, cotangent(v))
    want = jax.vjp(lambda p: flat_f(p, v), params)[1](y)[0]
    got = jax.jit(jax.grad(loss))(params)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, atol=1e-8), got, want)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["fixed_point_iter", "broyden"])
def test_derivatives_of_both_orders_agree_with_finite_differences(solver):
    f, params, z0 = tanh_system(batch=2)

    def loss(p):
        z, _ = jdeq.deq(
            lambda z: f(p, z), z0, solver=TIGHT[solver], backward=jdeq.IFT(solver=TIGHT[solver])
        )
        return jnp.sum(z["a"] ** 2) + jnp.sum(z["b"] ** 3)

    check_grads(jax.jit(loss), (params,), order=2, modes=["rev"], atol=1e-5, rtol=1e-5)


@functools.partial(jax.jit, static_argnames="backward")
@jax.grad
def gradient_of_scaled_loss(w, scale, backward):
    b = jnp.asarray(np.random.default_rng(1).normal(size=(4, 8)))
    z, _ = jdeq.deq(
        lambda z: z @ w + b,
        jnp.zeros_like(b),
        solver=TIGHT["broyden"],
        backward=jdeq.IFT(solver=backward, tol=1e-5, max_iter=100),
    )
    return scale * jnp.sum(z**2)


@pytest.mark.slow
@pytest.mark.parametrize("backward", STOPPING)
@pytest.mark.parametrize("scale", [1e-8, 1e-6, 1e4])
def test_the_gradient_scales_with_the_loss(backward, scale):
    w = jnp.asarray(matrix(8, 0.8))
    one, scaled = (gradient_of_scaled_loss(w, c, backward) for c in (1.0, scale))
    np.testing.assert_allclose(scaled / scale, one, rtol=1e-4, atol=1e-4 * np.abs(one).max())


@pytest.mark.parametrize("max_iter", [10, 100])
def test_a_diverging_backward_solve_gives_the_jacobian_free_gradient(max_iter):
    w, b = 1.5 * jnp.eye(8), jnp.ones((2, 8))

    def loss(b, backward):
        f = lambda z: z @ w + b
        return jnp.sum(jdeq.deq(f, jnp.zeros_like(b), solver="broyden", backward=backward)[0] ** 2)

    diverging = jdeq.IFT(solver="fixed_point_iter", max_iter=max_iter)
    got, want = (jax.jit(jax.grad(loss), static_argnums=1)(b, s) for s in (diverging, jdeq.JFB()))
    np.testing.assert_allclose(got, want, rtol=1e-12)


@needs_float16
def test_an_adjoint_out_of_range_is_no_success():
    """256 times the cotangent: float16 holds neither, but both as they are scaled for the solve."""
    said = []
    ift = jdeq.IFT("gmres", callback=said.append)

    def loss(b):
        z, _ = jdeq.deq(lambda z: (1 - 1 / 256) * z + b, jnp.zeros_like(b), backward=ift)
        return jnp.sum(300 * z)

    np.testing.assert_array_equal(jax.grad(loss)(jnp.ones((2, 1), jnp.float16)), 300)
    jax.effects_barrier()
    assert np.all(said[0].status == jdeq.Status.NONFINITE)


@pytest.mark.slow
def test_ift_gives_no_gradient_to_the_start():
    loss = lambda z0: jdeq.deq(lambda z: 0.5 * z + 1, z0)[0].sum()
    np.testing.assert_array_equal(jax.grad(loss)(jnp.ones((2, 3))), 0)
