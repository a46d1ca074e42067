"""Solvers for the linear systems of implicit gradients, against dense solves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq

from ...problems import affine, matrix
from .systems import EASY, KINDS, KRYLOV, MATRICES, N, V, solve

pytestmark = pytest.mark.slow


GENERAL = ["gmres", "bicgstab"]


@functools.partial(jax.jit, static_argnames="solver")
def gradient(a, b, *, solver):
    """Of the sum of z * V, through z = A z + b started at its solution."""

    def loss(a, b):
        start = jax.lax.stop_gradient(affine(a.T, b))
        here, backward = jdeq.FixedPointIter(max_iter=0), jdeq.IFT(solver=solver)
        return jnp.sum(
            jdeq.deq(lambda z: z @ a.T + b, start, solver=here, backward=backward)[0] * V
        )

    return jax.grad(loss, (0, 1))(a, b)


@pytest.mark.parametrize("solver", KRYLOV)
def test_gradients_are_those_of_the_dense_solve(solver):
    settings = KRYLOV[solver](max_iter=400, tol=1e-13)
    b = np.random.default_rng(1).normal(size=(4, N))
    for (kind, _), a in MATRICES.items():
        if solver == "cg" and kind != "symmetric":
            continue
        inverse = np.linalg.inv(np.eye(N) - a)
        y = np.asarray(V) @ inverse
        got = gradient(jnp.asarray(a), jnp.asarray(b), solver=settings)
        np.testing.assert_allclose(got[1], y, rtol=0, atol=1e-8 * np.abs(y).max())
        want = y.T @ (b @ inverse.T)
        np.testing.assert_allclose(got[0], want, rtol=0, atol=1e-8 * np.abs(want).max())


@pytest.mark.parametrize("tol", [1e-4, 1e-8])
@pytest.mark.parametrize("solver", KRYLOV)
def test_the_error_is_within_the_tolerance_times_the_conditioning(solver, tol):
    settings = KRYLOV[solver](max_iter=400, tol=tol)
    for (kind, _), a in MATRICES.items():
        if solver == "cg" and kind != "symmetric":
            continue
        y, info = solve(jnp.asarray(a), V, solver=settings)
        want = np.linalg.solve(np.eye(N) - a, np.asarray(V).T).T
        assert np.all(info.converged) and np.all(info.rel_residual < tol)
        error = np.linalg.norm(y - want, axis=1) / np.linalg.norm(want, axis=1)
        assert np.all(error <= 10 * tol * np.linalg.cond(np.eye(N) - a))


def test_full_gmres_needs_no_more_products_than_unknowns():
    for a in MATRICES.values():
        y, info = solve(jnp.asarray(a), V, solver=jdeq.GMRES(max_iter=N, tol=1e-9))
        assert np.all(info.converged) and info.nfe <= N + 3
        trace = np.asarray(info.abs_trace)
        steps = np.diff(trace, axis=1)
        assert np.all((steps <= 1e-10) | np.isnan(steps))  # the residual never rises


def test_full_gmres_stays_orthogonal_where_gram_schmidt_cancels():
    """Done once it would lose all digits here, and need hundreds of products."""
    rng = np.random.default_rng(3)
    n, condition = 30, 1e5
    left, right = (np.linalg.qr(rng.normal(size=(n, n)))[0] for _ in range(2))
    a = np.eye(n) - left @ np.diag(np.geomspace(1, 1 / condition, n)) @ right
    v = jnp.asarray(rng.normal(size=(2, n)))
    full = jdeq.GMRES(max_iter=200, restart=n + 2)
    y, info = solve(jnp.asarray(a), v, solver=full)
    assert np.all(info.converged) and info.nfe <= n + 3
    want = np.linalg.solve(np.eye(n) - a, np.asarray(v).T).T
    np.testing.assert_allclose(y, want, rtol=0, atol=1e-6 * np.abs(want).max())


def test_gmres_reaches_a_loose_tolerance_in_one_cycle():
    """Its estimate is no more hopeful than what is measured, however many samples there are."""
    rng = np.random.default_rng(0)
    a = jnp.asarray(rng.normal(size=(20, 20)) * 2 / 20**0.5)
    v = jnp.asarray(rng.normal(size=(2000, 20)))
    solver = jdeq.GMRES(tol=0.3, max_iter=20)

    def one(v):
        return jdeq.deq(lambda y: v + y @ a, jnp.zeros_like(v), solver=solver, batch_dims=0)[1]

    info = jax.vmap(one)(v)
    assert info.converged.all()
    np.testing.assert_array_equal(info.nfe, info.steps + 3)  # f(0), and a measurement at either end


@pytest.mark.parametrize("radius", [1.5, 3.0])
@pytest.mark.parametrize("solver", GENERAL)
def test_eigenvalues_beyond_one_do_no_harm(solver, radius):
    a = matrix(16, radius)
    y, info = solve(jnp.asarray(a), V[:, :16], solver=KRYLOV[solver](max_iter=200, tol=1e-10))
    want = np.linalg.solve(np.eye(16) - a, np.asarray(V[:, :16]).T).T
    assert np.all(info.converged)
    np.testing.assert_allclose(y, want, rtol=0, atol=1e-7 * np.abs(want).max())


@pytest.mark.parametrize("terms", [0, 1, 5, 20])
def test_a_truncated_neumann_series_has_its_exact_error(terms):
    for kind in KINDS:
        a = MATRICES[kind, 0.9]
        y, info = solve(jnp.asarray(a), V, solver=jdeq.Neumann(max_iter=terms))
        want = np.linalg.solve(np.eye(N) - a, np.asarray(V).T).T
        error = want @ np.linalg.matrix_power(a.T, terms + 1)
        np.testing.assert_allclose(want - y, error, rtol=0, atol=1e-11 * np.abs(want).max())
        assert info.nfe == terms + 1 and not np.any(info.converged)


def test_a_neumann_series_with_a_tolerance_stops_there():
    a = jnp.asarray(MATRICES["symmetric", 0.5])
    y, info = solve(a, V, solver=jdeq.Neumann(max_iter=100, tol=1e-6))
    assert np.all(info.converged) and info.nfe < 30
    np.testing.assert_allclose(y, affine(a.T, V), atol=1e-4)


@pytest.mark.parametrize("solver", KRYLOV)
def test_gradient_of_a_tanh_network(solver):
    """CG on one whose Jacobian is symmetric, as that of a gradient step is."""
    w = jnp.asarray(matrix(8, 0.5, symmetric=True))
    x = jnp.asarray(np.random.default_rng(2).normal(size=(3, 8)))
    plain = lambda w, z: jnp.tanh(z @ w + x)
    f = (lambda w, z: plain(w, z) @ w.T) if solver == "cg" else plain

    def loss(w, backward):
        z, _ = jdeq.deq(
            lambda z: f(w, z), jnp.zeros_like(x), solver=jdeq.Broyden(tol=1e-13), backward=backward
        )
        return jnp.sum(z**3)

    got = jax.jit(jax.grad(lambda w: loss(w, jdeq.IFT(solver, tol=1e-13, max_iter=100))))(w)
    want = jax.jit(jax.grad(lambda w: loss(w, jdeq.PhantomGrad(100))))(w)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-8)


@pytest.mark.parametrize("solver", KRYLOV)
@pytest.mark.parametrize("scale", [2.0**-27, 2.0**27])
def test_the_scale_of_the_loss_plays_no_part(solver, scale):
    a, settings = jnp.asarray(MATRICES["symmetric", 0.9]), KRYLOV[solver](tol=1e-6)
    y, info = solve(a, V, solver=settings)
    scaled, scaled_info = solve(a, scale * V, solver=settings)
    np.testing.assert_array_equal(info.steps, scaled_info.steps)
    np.testing.assert_array_equal(scaled / scale, y)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("solver", [*KRYLOV, "neumann"])
def test_every_precision_reaches_its_own_resolution(solver, dtype):
    v = V.astype(dtype)
    y, info = solve(
        jnp.asarray(EASY, dtype), v, solver=(KRYLOV | {"neumann": jdeq.Neumann})[solver]()
    )
    assert y.dtype == dtype and info.rel_residual.dtype == jnp.float32 and np.all(info.converged)
    want = np.linalg.solve(np.eye(N) - EASY, np.asarray(V).T).T
    error = np.linalg.norm(y.astype(jnp.float64) - want) / np.linalg.norm(want)
    assert error < 10 * float(jnp.finfo(dtype).eps) ** 0.75
