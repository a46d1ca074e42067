"""What is particular to Anderson acceleration, and its small systems."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq
from jdeq.solvers.parts.small import solve_general, solve_spd

from ..problems import affine, matrix


@pytest.mark.parametrize("kind", [1, 2])
@pytest.mark.parametrize("radius", [0.9, 1.5])
def test_full_memory_solves_an_affine_map_in_n_plus_two_evaluations(kind, radius):
    n = 8
    w, b = jnp.asarray(matrix(n, radius)), jnp.asarray(np.random.default_rng(0).normal(size=(5, n)))
    solver = jdeq.Anderson(m=n + 2, kind=kind, max_iter=40, tol=1e-10)
    z, info = jdeq.deq(lambda z: z @ w + b, jnp.zeros_like(b), solver=solver)
    np.testing.assert_allclose(z, affine(w, b), rtol=1e-6, atol=1e-8)
    assert np.all(info.steps <= n + 2)


@pytest.mark.parametrize("kind", [1, 2])
@pytest.mark.parametrize("tau", [1.0, 0.6])
def test_a_step_is_the_textbook_formula(kind, tau):
    """gamma = (T^T dG)^{-1} T^T g over the whole window, by numpy, in every iteration."""
    rng = np.random.default_rng(1)
    w, b = matrix(10, 0.9), rng.normal(size=(1, 10))
    f = lambda z: np.tanh(z @ w + b)
    m, zs = 4, [np.zeros((1, 10))]
    for k in range(12):
        window = zs[-m:]
        gs = [f(z) - z for z in window]
        if k == 0:
            zs.append(f(zs[0]))
            continue
        dz = np.concatenate([b - a for a, b in zip(window, window[1:], strict=False)]).T
        dg = np.concatenate([b - a for a, b in zip(gs, gs[1:], strict=False)]).T
        test = dz if kind == 1 else dg
        gamma = np.linalg.solve(test.T @ dg, test.T @ gs[-1][0])
        zs.append(window[-1] + tau * gs[-1] - (dz + tau * dg) @ gamma)
    solver = jdeq.Anderson(m=m, kind=kind, tau=tau, max_iter=12, tol=1e-13, return_final=True)
    solve = jax.jit(
        lambda limit: jdeq.deq(
            lambda z: jnp.tanh(z @ w + b), jnp.zeros((1, 10)), solver=solver, max_iter=limit
        )[0]
    )
    for k in range(1, 13):
        np.testing.assert_allclose(solve(jnp.asarray(k)), zs[k], atol=1e-8)


@pytest.mark.parametrize("size", [6, 12])
def test_small_systems(size):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(50, size, size)), rng.normal(size=(50, size))
    want = np.linalg.solve(a, b[..., None])[..., 0]
    np.testing.assert_allclose(solve_general(jnp.asarray(a), jnp.asarray(b)), want, rtol=1e-8)
    gram = a @ a.transpose(0, 2, 1)
    scale = 1 / np.sqrt(np.einsum("bii->bi", gram))
    unit = gram * scale[:, None] * scale[..., None]
    want = np.linalg.solve(unit, b[..., None])[..., 0]
    got = solve_spd(jnp.asarray(unit), jnp.asarray(b), dependent=1e-15)
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("size", [3, 12])
@pytest.mark.parametrize("solve", [solve_general, lambda a, b: solve_spd(a, b, dependent=1e-12)])
def test_singular_systems_leave_dependent_unknowns_out(solve, size):
    a = jnp.eye(size).at[:2, :2].set(1).at[2, 2].set(0)
    b = jnp.arange(size).at[:3].set(jnp.array([2, 2, 0])).astype(float)
    x = solve(a, b)
    assert np.all(np.isfinite(x))
    np.testing.assert_allclose(a @ x, b)


@pytest.mark.parametrize("kind", [1, 2])
def test_a_window_of_equal_differences_is_no_trouble(kind):
    """f moves along one line: all differences are parallel and the small system is singular."""
    f = lambda z: 0.9 * z + 1
    z, info = jdeq.deq(f, jnp.zeros((3, 4)), solver=jdeq.Anderson(kind=kind, max_iter=20))
    np.testing.assert_allclose(z, 10, rtol=1e-6)
    assert np.all(info.steps <= 3)


def test_type_one_takes_no_regularisation():
    with pytest.raises(ValueError, match="kind=2"):
        jdeq.Anderson(kind=1, lam=1e-4)
    with pytest.raises(ValueError, match="kind must be 1 or 2"):
        jdeq.Anderson(kind=3)  # pyright: ignore[reportArgumentType]


def test_a_stuck_window_is_shaken_loose():
    """On a symmetric spectrum up to +-0.999 windows of 6 hardly move the fastest oscillation."""
    rng = np.random.default_rng(0)
    q = np.linalg.qr(rng.normal(size=(64, 64)))[0]
    w = jnp.asarray(q @ np.diag(np.linspace(-0.999, 0.999, 64)) @ q.T)
    b = jnp.asarray(rng.normal(size=(1, 64)))
    options = {"solver": "anderson", "max_iter": 2000, "tol": 1e-6}
    solve = lambda **more: jdeq.deq(lambda z: z @ w + b, jnp.zeros_like(b), **options, **more)[1]
    shaken, plain = solve(), solve(patience=0)
    assert np.all(shaken.converged) and int(shaken.nfe) < 200
    assert int(plain.nfe) > 2 * int(shaken.nfe)


def test_patience_ends_in_a_damped_plain_step():
    """With m=1 and `f(z) = 2 - z` nothing moves until `z + g / 2`, which is the solution."""
    solver = jdeq.Anderson(m=1, patience=5, max_iter=20, tol=1e-12)
    z, info = jdeq.deq(lambda z: 2 - z, jnp.zeros((1, 1)), solver=solver)
    assert z[0, 0] == 1 and info.steps[0] == 6
    never = jdeq.deq(lambda z: 2 - z, jnp.zeros((1, 1)), solver="anderson", m=1, patience=0)[1]
    assert not never.converged[0]
