"""`f` communicates over an axis that the state is split over: by `vmap` or `shard_map`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jdeq
from tests.marks import some_of

N = 4
W = jnp.asarray(np.random.default_rng(0).normal(size=(2 * N, 2 * N))) * 0.2
X = jnp.asarray(np.random.default_rng(1).normal(size=(3, 2 * N)))
SHIFT = [(i, (i + 1) % N) for i in range(N)]
SOLVERS = {
    "fixed_point_iter": {"max_iter": 200},
    "simple_fixed_point_iter": {"max_iter": 100},
    "anderson": {},
    "broyden": {},
    "newton": {},
    "fallback": {},
}
EACH = pytest.mark.parametrize(
    "solver", some_of(list(SOLVERS), ["fixed_point_iter", "anderson", "newton"])
)


def mesh():
    return jax.make_mesh((N,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))


def mixed(z, x, w):
    """Columns of z and rows of w are split: a matrix product whose terms lie elsewhere."""
    return jnp.tanh(lax.psum_scatter(z @ w, "i", scatter_dimension=1, tiled=True) + x)


def whole(z, x, w):
    return jnp.tanh(z @ w + x)


def solve(f, x, w, solver, **options):
    options = SOLVERS[solver] | {"tol": 1e-10} | options
    backward = jdeq.IFT(tol=1e-10)
    return jdeq.deq(
        lambda z: f(z, x, w), jnp.zeros_like(x), solver=solver, backward=backward, **options
    )


def split(fn, check_vma=True):
    rows, columns = jax.P("i", None), jax.P(None, "i")
    return jax.shard_map(
        fn, mesh=mesh(), in_specs=(columns, rows), out_specs=columns, check_vma=check_vma
    )


@pytest.mark.slow
@EACH
@pytest.mark.parametrize("check_vma", [True, False], ids=["vma", "no vma"])
def test_a_state_split_over_devices_is_solved_as_one(solver, check_vma):
    """Answers, gradients and the reports are those of the whole; the devices agree when to stop."""
    if not check_vma and solver != "anderson":
        return
    parts = split(lambda x, w: solve(mixed, x, w, solver)[0], check_vma)
    loss = lambda fn: lambda x, w: jnp.sum(fn(x, w) ** 3)
    alone = lambda x, w: solve(whole, x, w, solver)[0]
    got = jax.jit(jax.value_and_grad(loss(parts), (0, 1)))(X, W)
    want = jax.jit(jax.value_and_grad(loss(alone), (0, 1)))(X, W)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-7), got, want)


def test_what_is_reported_is_of_the_whole():
    reports = jax.shard_map(
        lambda x, w: solve(mixed, x, w, "anderson")[1][:3],
        mesh=mesh(),
        in_specs=(jax.P(None, "i"), jax.P("i", None)),
        out_specs=jax.P(),
    )
    want = solve(whole, X, W, "anderson")[1]
    absolute, relative, steps = jax.jit(reports)(X, W)
    np.testing.assert_array_equal(steps, want.steps)
    np.testing.assert_allclose(absolute, want.abs_residual, rtol=1e-3)
    np.testing.assert_allclose(relative, want.rel_residual, rtol=1e-3)


@pytest.mark.slow
@EACH
def test_lanes_that_are_coupled(solver):
    """`pmean` and `ppermute` over the lanes of a `vmap`, in value and gradient."""

    def lane(x):
        f = lambda z: 0.4 * jnp.tanh(z) + x + 0.3 * lax.pmean(z, "b")
        g = lambda z: f(z) + 0.2 * lax.ppermute(z, "b", SHIFT)
        options = SOLVERS[solver] | {"tol": 1e-10}
        z0 = jnp.zeros(2)  # the same for all lanes
        return jdeq.deq(g, z0, batch_dims=0, solver=solver, **options)[0]

    def alone(x):
        f = lambda z: (
            0.4 * jnp.tanh(z) + x + 0.3 * z.mean(0, keepdims=True) + 0.2 * jnp.roll(z, 1, 0)
        )
        options = {"max_iter": 200, "tol": 1e-10}
        return jdeq.deq(f, jnp.zeros((N, 2)), batch_dims=0, solver=solver, **options)[0]

    x = X[0].reshape(N, 2)
    np.testing.assert_allclose(jax.vmap(lane, axis_name="b")(x), alone(x), rtol=0, atol=1e-8)
    loss = lambda fn: lambda x: jnp.sum(fn(x) ** 3)
    got = jax.jit(jax.grad(loss(jax.vmap(lane, axis_name="b"))))(x)
    np.testing.assert_allclose(got, jax.grad(loss(alone))(x), rtol=0, atol=1e-7)


@pytest.mark.slow
@EACH
def test_devices_that_share_parameters_keep_in_step(solver):
    """Samples of their own, which need different numbers of iterations, and gathered weights."""
    rates = jnp.array([0.1, 0.9, 0.3, 0.6])[:, None]

    def device(rate, w):
        f = lambda z: rate * jnp.sin(z @ lax.all_gather(w, "i", tiled=True)) + 1
        return jdeq.deq(f, jnp.zeros((1, 2 * N)), solver=solver, max_iter=200, tol=1e-10)

    sharded = jax.shard_map(
        lambda rate, w: (lambda z, info: (z, info.steps))(*device(rate, w)),
        mesh=mesh(),
        in_specs=(jax.P("i"), jax.P("i")),
        out_specs=jax.P("i"),
    )
    z, steps = jax.jit(sharded)(rates, W)
    f = lambda z: rates * jnp.sin(z @ W) + 1
    want, info = jdeq.deq(f, jnp.zeros((N, 2 * N)), solver=solver, max_iter=200, tol=1e-10)
    np.testing.assert_allclose(z, want, rtol=0, atol=1e-8)
    np.testing.assert_array_equal(steps, info.steps)  # each is a sample of its own
    loss = lambda w: jnp.sum(jax.jit(sharded)(rates, w)[0] ** 2)
    alone = lambda w: jnp.sum(
        jdeq.deq(lambda z: rates * jnp.sin(z @ w) + 1, jnp.zeros((N, 2 * N)), tol=1e-10)[0] ** 2
    )
    np.testing.assert_allclose(jax.grad(loss)(W), jax.grad(alone)(W), rtol=0, atol=1e-6)


def test_a_collective_inside_its_own_map_is_nobodys_business():
    f = lambda z: 0.5 * z + 0.1 * jax.vmap(lambda a: lax.pmean(a, "own"), axis_name="own")(z)
    z, info = jdeq.deq(lambda z: f(z) + 1, jnp.zeros((2, 3)), max_iter=200)
    assert np.all(info.converged)
    np.testing.assert_allclose(z, jnp.full_like(z, 2.5), rtol=1e-9)


def test_a_stream_refuses_to_communicate():
    f = lambda z, x: 0.5 * z + x + 0.1 * lax.pmean(z, "b")
    with pytest.raises(TypeError, match="communicates over 'b'"):
        jax.vmap(lambda x: jdeq.solve_stream(f, x), axis_name="b")(jnp.ones((2, 3, 1)))
