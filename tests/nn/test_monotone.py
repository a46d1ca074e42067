"""Monotone operator equilibria against enumeration of the active sets, and against theory."""

import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jdeq

pytestmark = pytest.mark.slow

SPLITTINGS = ["peaceman_rachford", "forward_backward"]
IN, N, BATCH = 3, 6, 4
TIGHT = {"max_iter": 4000, "tol": 1e-13, "param_dtype": jnp.float64}


def monotone(splitting: Any = "peaceman_rachford", *, n=N, seed=0, scale=1.0, **options):
    """A float64 layer; `scale` multiplies A and B."""
    layer = jdeq.nn.MonDEQ(IN, n, splitting=splitting, rngs=nnx.Rngs(seed), **TIGHT | options)
    for p in (layer.linear.A, layer.linear.B):
        p[...] = scale * p[...]
    return layer


def inputs(batch=BATCH, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(batch, IN)))


def arrays(layer, x):
    """W and q = U x + b in NumPy."""
    return np.asarray(layer.linear.kernel()), np.asarray(layer.input(x))


def active_sets(w, q, slack=1e-9):
    """All solutions of z = relu(W z + q), found by trying each set of active units."""
    n = len(q)
    d = np.array(list(itertools.product([0.0, 1.0], repeat=n)))
    z = np.linalg.solve(np.eye(n) - d[:, :, None] * w, (d * q)[..., None])[..., 0]
    slope = z @ w.T + q
    return z[np.all(np.where(d > 0, z > -slack, slope < slack), axis=1)]


def dense(layer, x):
    """z* and D at it, (B, n) each, by enumeration."""
    w, q = arrays(layer, x)
    z = np.concatenate([active_sets(w, row) for row in q])
    return z, (z @ w.T + q > 0).astype(float)


@functools.cache
def hundred_solutions(splitting: Any):
    """100 random layers at once: W, q, z*, info."""

    @jax.jit
    @jax.vmap
    def solve(key):
        key_x, key = jax.random.split(key)
        layer = jdeq.nn.MonDEQ(IN, N, m=0.5, splitting=splitting, rngs=nnx.Rngs(key), **TIGHT)
        x = jax.random.normal(key_x, (BATCH, IN), jnp.float64)
        layer.linear.B[...] = 2 * layer.linear.B[...]
        return layer.linear.kernel(), layer.input(x), *layer(x)

    return solve(jax.random.split(jax.random.key(0), 100))


@pytest.mark.parametrize("splitting", SPLITTINGS)
def test_the_one_fixed_point_of_a_hundred_layers(splitting):
    w, q, z, info = hundred_solutions(splitting)
    assert np.all(info.converged) and np.max(info.rel_residual) < 1e-11
    for w_i, q_i, z_i in zip(np.asarray(w), np.asarray(q), np.asarray(z), strict=True):
        for row, got in zip(q_i, z_i, strict=True):
            (want,) = active_sets(w_i, row)  # unique
            np.testing.assert_allclose(got, want, atol=1e-9)


def test_the_splittings_agree_and_peaceman_rachford_takes_fewer_steps():
    (*_, by_pr, pr), (*_, by_fb, fb) = (hundred_solutions(s) for s in SPLITTINGS)
    np.testing.assert_allclose(by_pr, by_fb, atol=1e-9)
    assert pr.steps.mean() < 0.5 * fb.steps.mean()


def test_where_plain_iteration_diverges():
    layer, x = monotone(n=8, scale=3.0), inputs()
    w, q = arrays(layer, x)
    assert np.abs(np.linalg.eigvals(w)).max() > 5
    f = lambda z: jax.nn.relu(z @ w.T + q)
    _, plain = jdeq.deq(f, jnp.zeros_like(q), max_iter=300)
    assert not np.any(plain.converged)
    z, info = layer(x)
    assert np.all(info.converged)
    np.testing.assert_allclose(z, dense(layer, x)[0], atol=1e-9)


@pytest.mark.parametrize("fraction", [0.3, 1.0, 1.9])
def test_forward_backward_contracts_as_the_theory_says(fraction):
    layer, x = monotone("forward_backward", m=0.8, scale=1.2), inputs()
    w, q = arrays(layer, x)
    m, norm = 0.8, np.linalg.norm(np.eye(N) - w, 2)
    alpha = fraction * m / norm**2
    factor = np.sqrt(1 - 2 * alpha * m + (alpha * norm) ** 2)
    _check_contraction(
        jdeq.forward_backward(layer.linear, jnp.asarray(q), alpha), dense(layer, x)[0], factor
    )
    layer.alpha = float(alpha)
    steps = int(layer(x)[1].steps.max())
    assert steps <= np.log(1e-13 / 10) / np.log(factor) + 2


@pytest.mark.parametrize("times_best", [0.2, 1.0, 5.0])
def test_peaceman_rachford_contracts_for_any_step(times_best):
    layer, x = monotone(m=0.8, scale=1.2), inputs()
    w, q = arrays(layer, x)
    eye, m = np.eye(N), 0.8
    norm = np.linalg.norm(eye - w, 2)
    alpha = times_best / norm
    v = np.linalg.inv(eye + alpha * (eye - w))
    factor = np.linalg.norm(2 * v - eye, 2)
    bound = np.sqrt(1 - 4 * alpha * m / (1 + 2 * alpha * m + (alpha * norm) ** 2))
    assert factor <= bound < 1
    if times_best == 1:
        np.testing.assert_allclose(bound, np.sqrt((norm - m) / (norm + m)))
    z = dense(layer, x)[0]
    fixed = z + alpha * (z @ w.T + q - z)
    step = jdeq.peaceman_rachford(lambda u: u @ v.T, jnp.asarray(q), alpha)
    np.testing.assert_allclose(step(jnp.asarray(fixed)), fixed, atol=1e-12)
    _check_contraction(step, fixed, factor)


def _check_contraction(step, fixed, factor):
    """The distance to `fixed` shrinks by `factor` at least, from a far start."""
    start = fixed + 5 * np.random.default_rng(1).normal(size=fixed.shape)
    states = jax.lax.scan(lambda s, _: (step(s), s), jnp.asarray(start), None, length=40)[1]
    error = np.linalg.norm(np.asarray(states) - fixed, axis=-1)
    clear = error[:-1] > 1e-9
    ratio = error[1:][clear] / error[:-1][clear]
    assert ratio.size > 20 and ratio.max() <= factor * (1 + 1e-6)


def test_too_long_a_forward_backward_step_is_reported():
    layer, x = monotone("forward_backward", scale=2.0, max_iter=300), inputs()
    layer.alpha = 3 * float(layer.step_size())
    _, info = layer(x)
    assert not np.any(info.converged)


def test_step_sizes_follow_the_norm():
    for seed in range(2):
        layer = monotone(n=40, seed=seed, scale=2.0)
        exact = np.linalg.norm(np.eye(40) - np.asarray(layer.linear.kernel()), 2)
        estimate = float(layer.linear.norm())
        assert 0.95 * exact < estimate <= exact * (1 + 1e-12)
        np.testing.assert_allclose(layer.step_size(), 1 / estimate)
        layer.splitting = "forward_backward"
        np.testing.assert_allclose(layer.step_size(), 1 / estimate**2)


@pytest.mark.parametrize("splitting", SPLITTINGS)
def test_gradients_are_those_of_the_dense_formula(splitting):
    layer, x = monotone(splitting, m=0.7, scale=1.5), inputs()
    target = jnp.asarray(np.random.default_rng(2).normal(size=(BATCH, N)))

    @jax.jit
    def gradients(layer, x):
        return jax.grad(lambda m, x: jnp.sum(target * m(x)[0]), (0, 1))(layer, x)

    by_layer, by_x = gradients(layer, x)
    w, a = np.asarray(layer.linear.kernel()), np.asarray(layer.linear.A[...])
    z, d = dense(layer, x)
    assert 0 < d.mean() < 1
    rows = zip(d, target, strict=True)
    t = np.stack([di * np.linalg.solve(np.eye(N) - w.T * di, v) for di, v in rows])
    by_w = t.T @ z  # t = D (I - W^T D)^{-1} v
    want = {
        "A": -a @ (by_w + by_w.T),
        "B": by_w - by_w.T,
        "U": np.asarray(x).T @ t,
        "b": t.sum(0),
        "x": t @ np.asarray(layer.input.kernel[...]).T,
    }
    got = {
        "A": by_layer.linear.A[...],
        "B": by_layer.linear.B[...],
        "U": by_layer.input.kernel[...],
        "b": by_layer.input.bias[...],
        "x": by_x,
    }
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, atol=1e-8, err_msg=name)


@pytest.mark.parametrize("splitting", SPLITTINGS)
def test_the_backward_solve_converges_at_the_forward_rate(splitting):
    infos = []
    layer, x = monotone(splitting, scale=1.5), inputs()
    assert isinstance(layer.backward, jdeq.IFT)
    layer.backward = dataclasses.replace(layer.backward, callback=infos.append)
    _, info = layer(x)
    jax.grad(lambda x: jnp.sum(layer(x)[0] ** 2))(x)
    jax.effects_barrier()
    assert np.all(infos[0].status == jdeq.Status.CONVERGED)
    assert infos[0].steps.max() < 2 * info.steps.max()


@pytest.mark.parametrize("m", [0.2, 1.0])
def test_the_solution_is_lipschitz_in_its_input(m):
    layer, x = monotone(m=m, scale=2.0), inputs()
    jacobians = jax.jit(jax.vmap(jax.jacrev(lambda x: layer(x)[0])))(x)
    u = np.asarray(layer.input.kernel[...]).T
    by_q = np.asarray(jacobians) @ np.linalg.pinv(u)  # dz/dq on the range of U
    assert 0 < np.linalg.norm(by_q, 2, axis=(1, 2)).max() <= 1 / m + 1e-9


def test_training_keeps_the_monotonicity_and_learns():
    layer, x = monotone(n=10, m=0.3, tol=1e-8), inputs(32)
    head = jnp.asarray(np.random.default_rng(3).normal(size=(10,)))
    target = jnp.sin(2 * x[:, 0]) * x[:, 1]
    optimizer = nnx.Optimizer(layer, optax.sgd(0.03, momentum=0.9), wrt=nnx.Param)

    @nnx.jit
    def step(layer, optimizer):
        def loss(m):
            z, info = m(x)
            return jnp.mean((z @ head - target) ** 2), info

        (value, info), grads = nnx.value_and_grad(loss, has_aux=True)(layer)
        optimizer.update(layer, grads)
        return value, jnp.all(info.converged)

    values, converged = zip(*(step(layer, optimizer) for _ in range(40)), strict=True)
    assert values[-1] < 0.5 * values[0] and all(converged)
    w = np.asarray(layer.linear.kernel())
    assert np.linalg.eigvalsh(np.eye(10) - (w + w.T) / 2).min() >= 0.3 - 1e-12
    assert np.abs(np.linalg.eigvals(w)).max() > 1


@pytest.mark.parametrize("splitting", SPLITTINGS)
def test_a_warm_start_at_the_solution_is_converged(splitting):
    layer, x = monotone(splitting, tol=1e-10), inputs()
    z, _ = layer(x)
    _, info = layer(x, z)
    assert info.nfe <= 3


@pytest.mark.parametrize("splitting", SPLITTINGS)
def test_shapes_and_dtypes(splitting):
    layer = monotone(splitting, param_dtype=jnp.float32, tol=None)
    x = inputs().astype(jnp.float32)
    z, info = layer(x)
    assert z.dtype == jnp.float32 and np.all(info.converged)
    one, info_of_one = layer(x[0])
    assert one.shape == (N,) and info_of_one.status.shape == ()
    np.testing.assert_allclose(one, z[0], atol=1e-5)
    assert jax.eval_shape(layer, jnp.stack([x, x]))[0].shape == (2, BATCH, N)
    w = layer.linear.kernel()
    np.testing.assert_allclose(layer.linear(z), z @ w.T, atol=1e-5)
    half = layer.linear(z.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16


def test_the_residual_is_that_of_the_equation():
    layer, x = monotone("forward_backward", max_iter=5), inputs()
    w, q = arrays(layer, x)
    z, info = layer(x)
    residual = np.maximum(np.asarray(z) @ w.T + q, 0) - np.asarray(z)
    np.testing.assert_allclose(info.abs_residual, np.linalg.norm(residual, axis=1), rtol=1e-9)
    assert np.all(info.status == jdeq.Status.MAX_ITER) and not np.isnan(info.abs_trace).any()


@pytest.mark.parametrize("splitting", SPLITTINGS)
def test_converged_means_that_the_equation_is_met_to_tol(splitting):
    layer, x = monotone(splitting, m=0.1, tol=1e-5), inputs()
    _, info = layer(x)  # a step of forward-backward is a hundredth of the residual here
    assert np.all(info.converged) and np.all(info.rel_residual < 1.001e-5)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"m": 0.0}, "m must be > 0"),
        ({"alpha": -1.0}, "alpha must be > 0"),
        ({"splitting": "douglas"}, "'peaceman_rachford' or 'forward_backward'"),
        ({"tol": -1.0}, "tol must be >= 0"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        jdeq.nn.MonDEQ(2, 3, rngs=nnx.Rngs(0), **options)
