"""The Jacobian penalty against dense Jacobians, TorchDEQ's numbers and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jdeq

from ..golden import load
from ..problems import matrix, tanh_system

KEY = jax.random.key(0)


def golden_f(arrays, w=None):
    w = arrays["W"] if w is None else w
    x = jnp.asarray(arrays["x"] @ arrays["U"].T + arrays["b"])
    return lambda z: jnp.tanh(z @ w.T + x)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_golden_value_and_gradient(n):
    arrays = load("regularisation")
    eps = jnp.asarray(arrays[f"jac_reg{n}__eps"])
    z = jnp.asarray(arrays["z"])

    def penalty(w, **how):
        f = golden_f(arrays, w)
        given = lambda key, shape, dtype: eps
        return jdeq.jac_reg(f, z, KEY, n_samples=n, distribution=given, **how)

    value, grad = jax.jit(jax.value_and_grad(penalty))(jnp.asarray(arrays["W"]))
    np.testing.assert_allclose(value, arrays[f"jac_reg{n}__value"], atol=1e-11)
    np.testing.assert_allclose(grad, arrays[f"jac_reg{n}__gW"], atol=1e-11)
    each = penalty(jnp.asarray(arrays["W"]), per_sample=True)
    assert each.shape == (4,) and np.ptp(each) > 0.01
    np.testing.assert_allclose(each.mean(), value, atol=1e-12)


def many(f, z, n=10_000, **how):
    keys = jax.random.split(KEY, n)
    return jax.jit(jax.vmap(lambda key: jdeq.jac_reg(f, z, key, **how)))(keys)


@pytest.mark.parametrize("distribution", ["normal", "rademacher"])
def test_the_mean_is_the_frobenius_norm(distribution):
    arrays = load("regularisation")
    values = many(golden_f(arrays), jnp.asarray(arrays["z"]), distribution=distribution)
    np.testing.assert_allclose(values.mean(), arrays["trJJt_over_size"], rtol=0.01)


def test_the_variances_are_those_predicted():
    w = jnp.asarray(matrix(12, 0.9))
    s = np.asarray(w.T @ w)  # J J^T of z -> z w
    normal, signs = (
        many(lambda z: z @ w, jnp.zeros((1, 12)), distribution=d) for d in ("normal", "rademacher")
    )
    whole, diagonal = 2 * np.sum(s**2), 2 * np.sum(np.diag(s) ** 2)
    np.testing.assert_allclose(normal.var() * 12**2, whole, rtol=0.1)
    np.testing.assert_allclose(signs.var() * 12**2, whole - diagonal, rtol=0.1)


def test_signs_are_exact_for_orthogonal_rows():
    f = lambda z: jnp.tanh(jnp.array([[0.5, -2.0, 3.0]]) * z)
    z = jnp.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    slope = jax.vjp(f, z)[1](jnp.ones_like(z))[0]
    found = jdeq.jac_reg(f, z, KEY, distribution="rademacher", per_sample=True)
    np.testing.assert_allclose(found, jnp.mean(slope**2, 1), rtol=1e-12)


def test_more_probes_scatter_less():
    f, z = lambda z: z @ jnp.asarray(matrix(6, 0.9)), jnp.zeros((1, 6))
    assert many(f, z, 500, n_samples=16).var() < many(f, z, 500).var() / 8


@pytest.mark.slow
@pytest.mark.parametrize("detach", [False, True])
def test_the_gradient_next_to_ift_is_that_of_finite_differences(detach):
    f, params, z0 = tanh_system()

    def loss(p, z_at=None):
        z, _ = jdeq.deq(
            lambda z: f(p, z), z0, solver="broyden", tol=1e-13, max_iter=60,
            backward=jdeq.IFT(tol=1e-13, max_iter=60),
        )  # fmt: skip
        at = z if z_at is None else z_at
        return jdeq.jac_reg(lambda z: f(p, z), at, KEY, n_samples=2), z

    z = loss(params)[1]
    direction = jax.tree.map(lambda a: jnp.sin(jnp.arange(a.size, dtype=float)), params)
    direction = jax.tree.map(lambda d, a: d.reshape(a.shape), direction, params)
    line = jax.jit(
        lambda t: loss(
            jax.tree.map(lambda a, d: a + t * d, params, direction), z if detach else None
        )[0]
    )
    slope = jax.grad(line)(0.0)
    h = 1e-5
    np.testing.assert_allclose(slope, (line(h) - line(-h)) / (2 * h), rtol=1e-6)
    assert abs(slope) > 1e-3


@pytest.mark.slow
def test_what_is_not_smooth_has_a_finite_gradient():
    conv = nnx.Conv(2, 2, (3, 3), rngs=nnx.Rngs(0))

    def loss(conv, z):  # at 0 all entries of a window tie, and relu has its kink
        pooled = lambda z: nnx.max_pool(nnx.relu(conv(z)), (2, 2), (2, 2))
        return jdeq.jac_reg(lambda z: jnp.repeat(jnp.repeat(pooled(z), 2, 1), 2, 2), z, KEY)

    z = jax.random.normal(KEY, (2, 4, 4, 2), jnp.float32).at[0].set(0)
    value, grads = nnx.value_and_grad(loss)(conv, z)
    assert value > 0 and np.isfinite(value)
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(grads))


def test_narrow_states_are_summed_in_float32():
    f = lambda z: jnp.asarray(0.5, z.dtype) * z
    found = jdeq.jac_reg(f, jnp.zeros((4, 1000), jnp.bfloat16), KEY, distribution="rademacher")
    assert found.dtype == jnp.float32 and found == 0.25


def test_batch_dims_and_empty_states():
    f = lambda z: 0.5 * z
    each = jdeq.jac_reg(f, jnp.ones((2, 3, 4)), KEY, batch_dims=2, per_sample=True)
    assert each.shape == (2, 3)
    assert jdeq.jac_reg(f, jnp.ones(4), KEY, batch_dims=0, per_sample=True).shape == ()
    assert jdeq.jac_reg(f, jnp.ones((0, 4)), KEY) == 0 == jdeq.jac_reg(f, jnp.ones((4, 0)), KEY)


@pytest.mark.parametrize("explicit", [False, True])
def test_a_sharded_batch_gets_the_same_probes(explicit):
    kind = jax.sharding.AxisType.Explicit if explicit else jax.sharding.AxisType.Auto
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(kind,))
    w, z = jnp.asarray(matrix(5, 0.9)), jnp.ones((8, 5))
    value = jax.jit(
        jax.value_and_grad(lambda w, z: jdeq.jac_reg(lambda z: jnp.tanh(z @ w), z, KEY))
    )
    want = value(w, z)
    with jax.set_mesh(mesh):
        spread = jax.device_put(z, jax.NamedSharding(mesh, jax.P("batch")))
        got = value(jax.device_put(w, jax.NamedSharding(mesh, jax.P())), spread)
    np.testing.assert_allclose(got[0], want[0], rtol=1e-12)
    np.testing.assert_allclose(got[1], want[1], rtol=1e-12)


@pytest.mark.slow
def test_training_with_it_brings_the_spectral_radius_down():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(16, 8)), jnp.float32)
    start = jnp.asarray(matrix(8, 0.95), jnp.float32)

    def solve(w):
        return jdeq.deq(lambda z: jnp.tanh(z @ w + x), jnp.zeros_like(x), solver="anderson")

    def radius(w):
        f = lambda z: jnp.tanh(z @ w + x)
        return float(jdeq.spectral_radius(f, solve(w)[0], jax.random.key(1)).mean())

    def train(weight):
        optimizer = optax.sgd(0.1)

        @jax.jit
        def step(w, state, key):
            def loss(w):
                z, _ = solve(w)
                penalty = jdeq.jac_reg(lambda z: jnp.tanh(z @ w + x), z, key)
                return jnp.mean((z - x) ** 2) + weight * penalty

            updates, state = optimizer.update(jax.grad(loss)(w), state)
            return optax.apply_updates(w, updates), state

        w, state = start, optimizer.init(start)
        for key in jax.random.split(KEY, 60):
            w, state = step(w, state, key)
        return radius(w)

    plain, held = train(0.0), train(1.0)
    assert held < 0.6 * plain and held < 0.6 * radius(start)


@pytest.mark.parametrize(
    "option, value", [("n_samples", 0), ("distribution", "uniform"), ("batch_dims", -1)]
)
def test_bad_options_are_named(option, value):
    with pytest.raises(ValueError, match=option):
        jdeq.jac_reg(lambda z: z, jnp.ones((2, 3)), KEY, **{option: value})


def test_an_f_that_is_none_is_named():
    with pytest.raises(TypeError, match=r"\['a'\]"):
        jdeq.jac_reg(lambda z: {"a": z["a"][:, :1]}, {"a": jnp.ones((2, 3))}, KEY)
