"""The DEQ layer, and cells of other libraries."""

from typing import Any

import equinox
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jdeq

from ..tolerances import rounding
from .training import train

X = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)


class Cell(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(4, 4, rngs=rngs)

    def __call__(self, z, x):
        return jnp.tanh(0.4 * self.linear(z) + x)


def layer(cell=None, **options):
    return jdeq.nn.DEQ(cell or Cell(nnx.Rngs(0)), jdeq.DEQConfig(f_tol=1e-6, **options))


def test_output_is_the_fixed_point():
    deq = layer()
    z, info = nnx.jit(deq)(X)
    np.testing.assert_allclose(deq.cell(z, X), z, atol=1e-5)
    assert np.all(info.converged)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"ift": True}, {"grad": 3, "tau": 0.8}])
@pytest.mark.parametrize("norm_type", ["none", "weight_norm"])
def test_the_layer_learns(options, norm_type):
    deq = layer(norm_type=norm_type, f_solver="broyden", **options)
    losses = train(deq, X)
    assert losses[-1] < 0.5 * losses[0]


def test_evaluation_has_its_own_iterations():
    deq = layer(f_max_iter=2, eval_factor=3.0, n_states=2)
    assert deq(X)[1].abs_trace.shape == (3, 2) and len(deq(X)[1].states) == 2
    deq.eval()
    assert deq(X)[1].abs_trace.shape == (3, 6) and deq(X)[1].states == ()
    deq.train()
    assert deq(X)[1].abs_trace.shape == (3, 2)
    assert layer(f_max_iter=2, eval_f_max_iter=7).config.solver(train=False).max_iter == 7


@pytest.mark.slow
def test_gradients_flow_in_evaluation_too():
    deq = layer()
    deq.eval()
    grads = nnx.grad(lambda m: m(X)[0].sum())(deq)
    assert np.abs(grads["cell"]["linear"]["kernel"][...]).max() > 0.1


def test_max_iter_per_call_may_be_traced():
    traces = []

    @jax.jit
    def steps(limit):
        traces.append(1)
        return layer(f_max_iter=20)(X, max_iter=limit)[1].nfe

    after = 2  # the phantom step, and what measures it
    assert [int(steps(jnp.asarray(n, jnp.int32))) - after for n in (0, 2, 5)] == [1, 3, 6]
    assert len(traces) == 1
    assert int(layer()(X, max_iter=3)[1].nfe) - after == 4


def test_a_warm_start_is_already_converged():
    deq = layer()
    deq.eval()
    z, _ = deq(X)
    assert deq(X, z)[1].nfe == 1


def test_the_start_state():
    class WithStart(Cell):
        def initial_state(self, x, key=None):
            return jnp.zeros_like(x) if key is None else jax.random.normal(key, x.shape, x.dtype)

    cell = WithStart(nnx.Rngs(0))
    key = jax.random.key(1)
    deq = layer(cell, f_max_iter=0)
    start = jdeq.nn.DEQ(cell, deq.config, init=lambda x: jnp.full_like(x, 7))
    as_given = lambda d, **kw: np.asarray(d(X, **kw)[0])
    noise = jax.random.normal(key, X.shape, X.dtype)
    images = (
        (as_given(deq), cell(jnp.zeros_like(X), X)),
        (as_given(deq, key=key), cell(noise, X)),
        (as_given(start), cell(jnp.full_like(X, 7), X)),
    )
    for got, want in images:
        close = rounding(X.dtype, terms=6, size=10)
        np.testing.assert_allclose(got, want, rtol=0, atol=close)
    with pytest.raises(TypeError, match="initial_state"):
        layer()({"x": X})


@pytest.mark.slow
def test_functions_linen_and_equinox_cells():
    x = X[:, :3]
    function = lambda z, x: jnp.tanh(0.2 * z + x)
    z, info = jdeq.nn.DEQ(function)(x)
    np.testing.assert_allclose(function(z, x), z, atol=1e-3)

    linen: Any = flax.linen.Dense(3, use_bias=False)
    params: Any = linen.init(jax.random.key(0), x)
    dense = equinox.nn.Linear(3, 3, use_bias=False, key=jax.random.key(0))
    dense = equinox.tree_at(lambda d: d.weight, dense, params["params"]["kernel"].T)

    def linen_loss(p):
        return jdeq.deq(lambda z: jnp.tanh(0.3 * linen.apply(p, z) + x), jnp.zeros_like(x))[0].sum()

    def equinox_loss(d):
        f = lambda z: jnp.tanh(0.3 * jax.vmap(d)(z) + x)
        return jdeq.deq(f, jnp.zeros_like(x))[0].sum()

    by_linen = jax.jit(jax.grad(linen_loss))(params)["params"]["kernel"]
    by_equinox = equinox.filter_jit(equinox.filter_grad(equinox_loss))(dense).weight.T
    np.testing.assert_allclose(by_equinox, by_linen, atol=1e-4)
    assert np.abs(by_linen).max() > 0.1


def test_weight_norm_needs_a_module():
    with pytest.raises(TypeError, match="nnx.Module"):
        jdeq.nn.DEQ(lambda z, x: z, jdeq.DEQConfig(norm_type="weight_norm"))


def test_print_names_cell_and_configuration():
    text = repr(layer(f_solver="broyden"))
    assert "Cell" in text and "broyden" in text and "kernel" in text
