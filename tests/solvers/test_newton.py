"""Newton-Krylov: quadratic convergence, exactness on affine maps, what it counts and promises."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq
from benchmarks.problems import problems
from jdeq import Status

from ..problems import affine, matrix, tanh_system
from ..tolerances import rounding

pytestmark = pytest.mark.slow

W = jnp.asarray(matrix(16, 0.8))
X = jnp.asarray(np.random.default_rng(0).normal(size=(4, 16)))


def network(z):
    return jnp.tanh(z @ W + X)


def test_the_residual_squares_on_a_tanh_network():
    z, info = jdeq.deq(network, jnp.zeros_like(X), solver=jdeq.Newton(tol=1e-13))
    assert np.all(info.converged) and np.all(info.steps <= 6)
    trace = np.asarray(info.rel_trace)[:, :5]
    for before, after in zip(trace[:, 1:4].T, trace[:, 2:5].T, strict=True):
        assert np.all(np.isnan(after) | (after < np.maximum(5 * before**1.8, 1e-13)))
    np.testing.assert_allclose(network(z), z, atol=1e-12)


@functools.partial(jax.jit, static_argnums=1)
def solve_affine(w, solver):
    return jdeq.deq(lambda z: z @ w + X, jnp.zeros_like(X), solver=solver)


@pytest.mark.parametrize("radius", [0.9, 1.5, 3.0])
def test_one_step_solves_an_affine_problem(radius):
    w = jnp.asarray(matrix(16, radius))
    z, info = solve_affine(w, jdeq.Newton(tol=1e-10, forcing=1e-12))
    assert np.all(info.converged) and np.all(info.steps == 1)
    np.testing.assert_allclose(z, affine(w, X), atol=1e-8)
    z, info = solve_affine(w, jdeq.Newton(tol=1e-10))
    assert np.all(info.converged) and np.all(info.steps <= 5)
    np.testing.assert_allclose(z, affine(w, X), atol=1e-7)


def spread(size, radius):
    """A symmetric matrix with evenly spread eigenvalues from -radius to radius."""
    q = np.linalg.qr(np.random.default_rng(0).normal(size=(size, size)))[0]
    return q @ np.diag(radius * np.linspace(-1, 1, size)) @ q.T


SYSTEMS = {  # and the evaluations that scipy.optimize.newton_krylov takes
    "symmetric 0.999": (spread(64, 0.999), 64),
    "symmetric 1.5": (spread(64, 1.5), 239),
    "symmetric 1.5, more than the basis": (spread(128, 1.5), 1123),
    "Gaussian 0.999": (matrix(64, 0.999), 63),
    "Gaussian 1.5": (matrix(64, 1.5), 473),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_ill_conditioned_and_indefinite_systems_within_a_budget(name):
    w, budget = SYSTEMS[name]
    size = len(w)
    b = jnp.asarray(np.random.default_rng(1).normal(size=(1, size)))
    f = lambda z: z @ jnp.asarray(w) + b
    z, info = jdeq.deq(f, jnp.zeros_like(b), solver=jdeq.Newton(tol=1e-6))
    assert np.all(info.converged) and info.nfe <= budget
    fz = np.asarray(z) @ w + np.asarray(b)
    residual = np.linalg.norm(fz - z)
    assert residual < 1e-6 * np.linalg.norm(fz)
    error = np.linalg.norm(z - affine(jnp.asarray(w), b))
    least = np.linalg.svd(np.eye(size) - w)[1].min()
    assert error <= 1.01 * residual / least


def test_a_hard_system_does_not_depend_on_its_batch():
    """Nor an easy one on hard ones, whose cycles end with earlier directions."""
    d = jnp.stack([r * jnp.linspace(-1, 1, 128) for r in (1.5, 0.5, 1.5)])
    b = jnp.asarray(np.random.default_rng(3).normal(size=(3, 128)))
    solver = jdeq.Newton(tol=1e-9)
    solve = jax.jit(lambda d, b: jdeq.deq(lambda z: d * z + b, jnp.zeros_like(b), solver=solver))
    z, info = solve(d, b)
    assert np.all(info.converged) and info.steps[1] < 4 < info.steps[0]
    np.testing.assert_allclose(z, b / (1 - d), rtol=1e-5)
    for i in range(3):
        one, alone = solve(d[i : i + 1], b[i : i + 1])
        np.testing.assert_allclose(one[0], z[i], rtol=1e-7)
        assert alone.steps[0] == info.steps[i]


def test_the_basis_is_no_larger_than_the_state_and_as_large_as_asked():
    b = jnp.asarray(np.random.default_rng(1).normal(size=(1, 64)))
    f = lambda z: z @ jnp.asarray(spread(64, 1.5)) + b
    for size, steps in ((64, 2), (1000, 2)):  # the first one is to see that f is affine
        solver = jdeq.Newton(tol=1e-6, inner_max_iter=size)
        _, info = jdeq.deq(f, jnp.zeros_like(b), solver=solver)
        assert info.steps == steps and info.nfe <= 64 + 3 + 3


def test_expansive_networks():
    """Strict descent of the residual ends in its minima: it solves 35 of the 48."""
    w = jnp.asarray(matrix(64, 2.0, seed=11))
    x = jnp.asarray(np.random.default_rng(12).normal(size=(48, 64)))
    f = lambda z: jnp.tanh(z @ w + x)
    z, info = jax.jit(lambda z: jdeq.deq(f, z, solver=jdeq.Newton(tol=1e-9, max_iter=100)))(
        jnp.zeros_like(x)
    )
    assert np.sum(info.converged) >= 40
    fz = np.tanh(np.asarray(z) @ np.asarray(w) + np.asarray(x))
    relative = np.linalg.norm(fz - z, axis=1) / np.linalg.norm(fz, axis=1)
    close = rounding(z.dtype, terms=64)
    np.testing.assert_allclose(relative, info.rel_residual, rtol=1e-4, atol=close)
    assert np.all(relative[info.converged] < 1e-9)


def overflowing(z, limit):
    """z + 3 - exp z, whose solution is log 3 and which a full step from -10 overflows.

    Beyond `limit` away from -10 there is nothing but NaN.
    """
    return jnp.where(jnp.abs(z + 10) < limit, z + 3 - jnp.exp(z), jnp.nan)


def test_a_step_that_overflows_is_halved():
    solver = jdeq.Newton(tol=1e-12, stop_mode="abs")
    z0 = jnp.array([[-10.0], [1.0], [-10.0]])
    limit = jnp.array([[jnp.inf], [jnp.inf], [1e-9]])
    z, info = jdeq.deq(lambda z: overflowing(z, limit), z0, solver=solver)
    assert info.status.tolist() == [Status.CONVERGED, Status.CONVERGED, Status.NONFINITE]
    np.testing.assert_allclose(z[:2], np.log(3), rtol=1e-12)
    assert np.isinf(info.abs_trace[0, 0]) and info.steps[0] < 25
    assert z[2] == -10 and info.steps[2] == 0
    np.testing.assert_allclose(info.abs_residual[2], 3 - np.exp(-10), rtol=1e-12)
    for i in range(3):  # alone as in the batch
        one, alone = jdeq.deq(
            lambda z, i=i: overflowing(z, limit[i : i + 1]), z0[i : i + 1], solver=solver
        )
        np.testing.assert_allclose(one, z[i : i + 1], rtol=1e-12)
        assert alone.status[0] == info.status[i] and alone.steps[0] == info.steps[i]


def test_a_singular_start_is_left():
    f = lambda z: z + z**2 - 2  # I - J = 0 at 0
    z, info = jdeq.deq(f, jnp.zeros((1, 1)), solver=jdeq.Newton(tol=1e-13))
    assert np.all(info.converged)
    np.testing.assert_allclose(jnp.abs(z), 2**0.5, rtol=1e-12)


SCALARS = {
    "cos": (jnp.cos, 1.0, 0.7390851332151607),
    "Babylonian root": (lambda z: 0.5 * (z + 7 / z), 1.0, 7**0.5),
    "flat far away": (lambda z: z - jnp.arctan(z - 1), 3.0, 1.0),  # a full step overshoots
}


@pytest.mark.parametrize("name", SCALARS)
def test_scalar_equations(name):
    f, start, want = SCALARS[name]
    z, info = jdeq.deq(
        f, jnp.full((), start), batch_dims=0, solver=jdeq.Newton(tol=1e-14, stop_mode="abs")
    )
    assert info.status == Status.CONVERGED
    np.testing.assert_allclose(z, want, rtol=1e-13)


def test_nfe_counts_evaluations_linearisations_and_products():
    """In one dimension a step takes one of each."""
    solver = jdeq.Newton(tol=1e-12)
    for f in (lambda z: 0.5 * (z + 7 / z), lambda z: 3 - 0.5 * z):
        _, info = jdeq.deq(f, jnp.full((1, 1), 2.0), solver=solver)
        assert np.all(info.converged) and info.nfe == 3 * info.steps[0] + 1
    assert jdeq.deq(network, X, solver=jdeq.Newton(max_iter=0))[1].nfe == 1


@pytest.mark.parametrize("stop_mode", ["abs", "rel"])
def test_the_best_state_comes_back_with_its_own_residual(stop_mode):
    f = lambda z: 3 * z + jnp.sin(5 * z)  # |f(z) - z| has minima that are no solutions
    z0 = jnp.array([[0.3, -0.2], [1.0, 2.0], [0.1, 0.1]])
    solver = jdeq.Newton(max_iter=12, tol=1e-12, stop_mode=stop_mode)
    z, info = jdeq.deq(f, z0, solver=solver)
    size = np.linalg.norm(f(z), axis=1) if stop_mode == "rel" else 1 - 1e-9
    first = np.linalg.norm(f(z0) - z0, axis=1)
    first = first / (np.linalg.norm(f(z0), axis=1) + 1e-9) if stop_mode == "rel" else first
    trace = info.rel_trace if stop_mode == "rel" else info.abs_trace
    reported = info.rel_residual if stop_mode == "rel" else info.abs_residual
    everything = np.concatenate([first[:, None], trace], 1)
    np.testing.assert_array_equal(info.steps, np.nanargmin(everything, 1))
    np.testing.assert_allclose(reported, np.nanmin(everything, 1), atol=1e-15)
    np.testing.assert_allclose(
        np.linalg.norm(f(z) - z, axis=1) / (size + 1e-9), reported, atol=1e-14
    )


def test_a_sample_does_not_depend_on_its_batch():
    gain = jnp.array([0.1, 0.6, 1.0, 1.6])
    settings = jdeq.Newton(tol=1e-8)

    def one(gain, x):
        f = lambda z: jnp.tanh(gain * (z @ W) + x)
        return jdeq.deq(f, jnp.zeros_like(x), solver=settings, batch_dims=0)

    @jax.jit
    def batch(gain, x):
        f = lambda z: jnp.tanh(gain[:, None] * (z @ W) + x)
        return jdeq.deq(f, jnp.zeros_like(x), solver=settings)

    z, info = batch(gain, X)
    assert np.all(info.converged) and len(set(info.steps.tolist())) > 1
    z_lanes, lanes = jax.jit(jax.vmap(one))(gain, X)
    np.testing.assert_allclose(z_lanes, z, atol=1e-12)
    np.testing.assert_array_equal(lanes.steps, info.steps)
    assert info.nfe >= lanes.nfe.max()  # of each iteration, what its slowest sample takes
    assert np.all(lanes.nfe > 3 * info.steps)

    nan, info = batch(gain.at[1].set(jnp.nan), X)
    assert info.status[1] == Status.NONFINITE
    np.testing.assert_array_equal(nan[1], 0)
    kept = np.array([0, 2, 3])
    np.testing.assert_array_equal(nan[kept], z[kept])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_every_precision_reaches_its_own_resolution(dtype):
    w, x = W.astype(dtype), X.astype(dtype)
    z, info = jdeq.deq(lambda z: jnp.tanh(z @ w + x), jnp.zeros_like(x), solver="newton")
    assert z.dtype == dtype and np.all(info.converged)


def test_gradients_of_a_coupled_network():
    f, params, z0 = tanh_system(batch=2)

    def loss(p, solver, backward):
        z, _ = jdeq.deq(lambda z: f(p, z), z0, solver=solver, backward=backward)
        return jnp.sum(z["a"] ** 2) + jnp.sum(z["b"] ** 3)

    grad = jax.jit(jax.grad(loss), static_argnums=(1, 2))
    backward = jdeq.IFT("fixed_point_iter", tol=1e-13, max_iter=200)
    got = grad(params, jdeq.Newton(tol=1e-13), backward)
    want = grad(params, jdeq.SimpleFixedPointIter(max_iter=0), jdeq.PhantomGrad(200))
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, atol=1e-10), got, want)


def test_a_sharded_batch_stays_sharded():
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))

    def solve(w, x):
        return jdeq.deq(lambda z: jnp.tanh(z @ w + x), jnp.zeros_like(x), solver="newton")[0]

    with jax.set_mesh(mesh):
        x = jax.device_put(X, jax.NamedSharding(mesh, jax.P("data")))
        w = jax.device_put(W, jax.NamedSharding(mesh, jax.P()))
        compiled: Any = jax.jit(solve).lower(w, x).compile()
        z = compiled(w, x)
    assert z.sharding.is_equivalent_to(x.sharding, 2)
    assert "all-gather" not in compiled.as_text()
    np.testing.assert_allclose(z, jax.jit(solve)(W, X), atol=1e-12)


def test_a_solution_far_out_is_reached_in_a_leap():
    """Its residual is then what float32 leaves of it, not a thousandth of the one before."""
    problem = next(p for p in problems() if p.name == "affine, non-normal, radius 0.9")
    offset = problem.f(problem.z0)
    w = np.asarray(jax.jacfwd(problem.f)(problem.z0)[0, :, 0])
    apart = np.eye(len(w)) - w
    want = np.linalg.solve(apart, offset[0])
    single = lambda x: jnp.asarray(x, jnp.float32)
    f = lambda z: z @ single(w.T) + single(offset)
    z, info = jdeq.deq(f, single(problem.z0), solver="newton")
    assert np.linalg.norm(want) > 1e3 and np.all(info.converged)
    error = np.linalg.norm(np.asarray(z[0], float) - want) / np.linalg.norm(want)
    assert error < np.linalg.cond(apart) * float(jnp.finfo(jnp.float32).eps) ** 0.75


def test_settings_are_checked():
    with pytest.raises(ValueError, match="forcing must be in"):
        jdeq.Newton(forcing=1.0)
    with pytest.raises(ValueError, match="backtracks must be >= 0"):
        jdeq.Newton(backtracks=-1)
    with pytest.raises(ValueError, match="Newton cannot be unrolled"):
        jdeq.deq(jnp.cos, jnp.zeros((2, 3)), solver="newton", backward="unroll")
