"""Gradients of all orders, scales and modes are right, unlike in TorchDEQ 0.1.0."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jdeq

from .problems import SOLVERS, Tanh, each_solver, relative_error

pytestmark = pytest.mark.slow


@each_solver
def test_the_gradient_scales_with_the_loss(solver):
    """TorchDEQ: an absolute b_tol of 1e-6 leaves 11 percent error at a loss scale of 1e-6."""
    p = Tanh()
    backward = jdeq.IFT(solver, tol=1e-6, max_iter=200)

    @jax.jit
    @jax.vmap
    def gradient(scale):
        loss = lambda w: scale * p.loss(w, solver="broyden", backward=backward)
        return jax.grad(loss)(p.w) / scale

    for g in gradient(jnp.array([1.0, 1e-4, 1e-8, 1e-100])):
        assert relative_error(g, p.gradient()) < 1e-5


class Cell(nnx.Module):
    def __init__(self, w):
        self.linear = nnx.Linear(*w.shape, param_dtype=w.dtype, rngs=nnx.Rngs(0))
        self.linear.kernel.set_value(jnp.asarray(w.T))

    def __call__(self, z, x):
        return jnp.tanh(self.linear(z) + x)


def layer(p):
    config = jdeq.DEQConfig(ift=True, f_solver="broyden", f_tol=1e-9, b_tol=1e-9)
    return jdeq.nn.DEQ(Cell(p.w), config)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_gradients_flow_in_both_modes(mode):
    """TorchDEQ: in eval mode the output is detached without notice (issues 4 and 8)."""
    p = Tanh()
    model = layer(p)
    getattr(model, mode)()
    loss = lambda m: jnp.sum(m(jnp.asarray(p.x))[0] ** 2) / 2
    grads = nnx.jit(nnx.grad(loss))(model)
    assert relative_error(grads["cell"]["linear"]["kernel"][...].T, p.gradient()) < 1e-6


@pytest.mark.parametrize("order", [2, 3])
def test_higher_derivatives(order):
    """TorchDEQ: second order runs without an error and is 95 percent off."""

    def root(a):  # z = (z + a / z) / 2
        return jdeq.deq(lambda z: 0.5 * (z + a / z), jnp.ones(()), batch_dims=0)[0]

    derivative = root
    for _ in range(order):
        derivative = jax.grad(derivative)
    a = 2.25  # the derivatives of sqrt(a)
    want = {2: -0.25 * a**-1.5, 3: 0.375 * a**-2.5}[order]
    np.testing.assert_allclose(jax.jit(derivative)(a), want, rtol=1e-6)


def test_hessian_vector_product():
    """TorchDEQ: the relative error against finite differences is 0.95."""
    p = Tanh(size=5)
    v = np.random.default_rng(7).normal(size=p.w.shape)
    gradient = jax.grad(functools.partial(p.loss, solver="broyden"))
    got = jax.jit(jax.grad(lambda w: jnp.vdot(gradient(w), v)))(p.w)
    h = 1e-5
    want = (p.gradient(p.w + h * v) - p.gradient(p.w - h * v)) / (2 * h)
    assert relative_error(got, want) < 1e-6


def test_a_gradient_can_be_pulled_back_twice():
    """TorchDEQ with hook_ift: the second backward gives the one-step gradient, 61 percent off."""
    p = Tanh()
    value, pull = jax.vjp(jax.jit(functools.partial(p.loss, solver="broyden")), p.w)
    first, second = pull(jnp.ones_like(value)), pull(jnp.ones_like(value))
    np.testing.assert_array_equal(first[0], second[0])
    assert relative_error(first[0], p.gradient()) < 1e-6


def test_a_layer_can_be_called_twice_before_its_gradient():
    """TorchDEQ with hook_ift: recursion without end."""
    one, two = Tanh(seed=0), Tanh(seed=0)
    two.x = -0.5 * one.x

    def loss(m):
        return sum(jnp.sum(m(jnp.asarray(p.x))[0] ** 2) / 2 for p in (one, two))

    grads = nnx.jit(nnx.grad(loss))(layer(one))
    got = grads["cell"]["linear"]["kernel"][...].T
    assert relative_error(got, one.gradient() + two.gradient()) < 1e-6


@pytest.mark.parametrize(
    "backward",
    [*map(jdeq.IFT, SOLVERS), "phantom", "jfb", "unroll"],
    ids=[*SOLVERS, "phantom", "jfb", "unroll"],
)
def test_f_may_ignore_z(backward):
    """TorchDEQ: the backward pass raises, a tensor was not used in the graph."""

    def total(a):
        f = lambda z: jnp.full_like(z, jnp.sin(a))
        return jdeq.deq(f, jnp.zeros((2, 3)), backward=backward, max_iter=5)[0].sum()

    value, slope = jax.jit(jax.value_and_grad(total))(0.3)
    np.testing.assert_allclose([value, slope], [6 * np.sin(0.3), 6 * np.cos(0.3)], rtol=1e-12)
