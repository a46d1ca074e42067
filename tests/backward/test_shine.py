"""SHINE against dense matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq
from jdeq.extend import Problem

from ..problems import matrix

pytestmark = pytest.mark.slow

N = 24


def shine_estimate(f, v, solver):
    """The forward solve, and y = -B^T v by the compact form."""
    solver = solver.remembering()
    problem = Problem.build(f, jnp.zeros_like(v), solver, batch_dims=1)
    solution = solver.solve(
        problem.f, problem.z0, space=problem.space, limit=problem.limit, indexing=(), loop="while"
    )
    return solution, solver.apply_transposed_inverse(problem.space, solution, v)


def broyden_inverse(f, z0, steps, tau, update):
    """Broyden's updates written out, for one sample (N,)."""
    g = lambda z: np.asarray(f(z[None])[0]) - z
    z, inverse = np.asarray(z0), -np.eye(z0.size)
    for _ in range(steps):
        s = -tau * inverse @ g(z)
        y = g(z + s) - g(z)
        w = s @ inverse if update == "good" else y
        inverse = inverse + np.outer(s - inverse @ y, w) / (w @ y)
        z = z + s
        np.testing.assert_allclose(inverse @ y, s, atol=1e-8)  # the secant equation
    return inverse


def anderson_inverse(f, z0, steps, tau, m, kind):
    """The multisecant inverse of the last window, for one sample (N,)."""
    g = lambda z: np.asarray(f(z[None])[0]) - z
    zs = [np.asarray(z0)]
    for k in range(steps + 1):
        window = np.stack(zs[-m:], 1)
        residuals = np.stack([g(z) for z in zs[-m:]], 1)
        dz, dg = np.diff(window), np.diff(residuals)
        test = dz if kind == 1 else dg
        inverse = (dz + dg) @ np.linalg.solve(test.T @ dg, test.T) - np.eye(z0.size)
        if k == steps:
            np.testing.assert_allclose(inverse @ dg, dz, atol=1e-8)  # all the secant equations
            return inverse
        gamma = np.linalg.solve(test.T @ dg, test.T @ residuals[:, -1])
        beta = 1 if k == 0 else tau
        zs.append(zs[-1] + beta * residuals[:, -1] - (dz + tau * dg) @ gamma)


SETTINGS = {
    f"{name} {rest}": (make, inverse, rest)
    for name, make, inverse, choices in (
        ("broyden", jdeq.Broyden, broyden_inverse, [{"update": u} for u in ("good", "bad")]),
        ("anderson", jdeq.Anderson, anderson_inverse, [{"m": 4, "kind": i} for i in (1, 2)]),
    )
    for rest in choices
}


@pytest.mark.parametrize("tau", [1.0, 0.7])
@pytest.mark.parametrize("make, inverse, settings", SETTINGS.values(), ids=SETTINGS)
def test_estimate_is_the_dense_product(make, inverse, settings, tau):
    rng = np.random.default_rng(0)
    w = jnp.asarray(matrix(N, 0.8))
    b, v = (jnp.asarray(rng.normal(size=(3, N))) for _ in range(2))
    b = b * jnp.array([[0.3], [1.0], [3.0]])
    f = lambda z, b: jnp.tanh(z @ w + b)
    solver = make(max_iter=60, tol=1e-4, tau=tau, **settings)
    solution, y = shine_estimate(lambda z: f(z, b), v, solver)
    assert np.all(solution.status == jdeq.Status.CONVERGED)
    assert len(set(solution.steps.tolist())) > 1  # samples stopped at different iterations
    for i in range(3):
        steps = int(solution.steps[i])
        one = lambda z, i=i: f(z, b[i : i + 1])
        dense = inverse(one, np.zeros(N), steps, tau, **settings)
        np.testing.assert_allclose(y[i], -dense.T @ v[i], atol=1e-7)


def test_steps_that_a_line_search_took_back_are_no_part_of_the_window():
    """B of the last window satisfies its secant equations, with empty pairs left out."""
    rng = np.random.default_rng(0)
    a, b = np.eye(N) + rng.normal(size=(N, N)) / 12, rng.normal(size=(3, N))
    v, z0 = jnp.asarray(rng.normal(size=(3, N))), jnp.asarray(2.5 * rng.normal(size=(3, N)))
    estimates = []
    for batch in (slice(None), slice(0, 1), slice(1, 2), slice(2, 3)):
        solver = jdeq.Anderson(m=4, max_iter=90, tol=1e-6, line_search=True).remembering()
        one = lambda z, batch=batch: z - (z @ a + 0.3 * z**3 - b[batch])
        problem = Problem.build(one, z0[batch], solver, batch_dims=1)
        solution = solver.solve(
            problem.f,
            problem.z0,
            space=problem.space,
            limit=problem.limit,
            indexing=(),
            loop="while",
        )
        assert np.all(solution.status == jdeq.Status.CONVERGED)
        y = solver.apply_transposed_inverse(problem.space, solution, v[batch])
        estimates.append(np.asarray(y))
    # samples that wait for others give what they give alone
    np.testing.assert_allclose(estimates[0], np.concatenate(estimates[1:]), rtol=1e-5, atol=1e-7)


def test_anderson_that_did_not_converge_gives_the_jacobian_free_gradient():
    w, v = jnp.asarray(matrix(N, 0.8)), jnp.ones((2, N))
    f = lambda z: jnp.tanh(z @ w + 1)
    solution, y = shine_estimate(f, v, jdeq.Anderson(max_iter=3, tol=1e-9))
    assert np.all(solution.status == jdeq.Status.MAX_ITER)
    np.testing.assert_array_equal(y, v)


def cotangents(kind, radius, backward, seeds=8, solver=None):
    """Parameter-free comparison: gradients with respect to b in z = z w + b are y itself."""
    w = np.stack([kind(N, radius, s) for s in range(seeds)])
    rng = np.random.default_rng(1)
    b, v = (jnp.asarray(rng.normal(size=(seeds, N))) for _ in range(2))

    def total(b):
        f = lambda z: jnp.einsum("si,sij->sj", z, jnp.asarray(w)) + b
        forward = solver or jdeq.Broyden(max_iter=200, tol=1e-4)
        return jnp.sum(v * jdeq.deq(f, jnp.zeros_like(b), solver=forward, backward=backward)[0])

    y = np.asarray(jax.jit(jax.grad(total))(b))
    exact = np.stack([np.linalg.solve(np.eye(N) - w[s], v[s]) for s in range(seeds)])
    return y, exact, np.asarray(v)


def cosine(a, b):
    return np.sum(a * b, -1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def psd(size, radius, seed):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))
    return q @ np.diag(np.linspace(0, radius, size)) @ q.T


@pytest.mark.parametrize("solver", [None, jdeq.Anderson(m=20, max_iter=200, tol=1e-4)])
@pytest.mark.parametrize("radius", [0.9, 0.99])
def test_better_than_jacobian_free_on_gaussian_spectra(radius, solver):
    y, exact, v = cotangents(matrix, radius, jdeq.SHINE(max_ratio=1e6), solver=solver)
    assert cosine(y, exact).mean() > cosine(v, exact).mean() + 0.02


def test_the_guard_fires_on_psd_spectra_and_makes_it_jacobian_free():
    free, exact, v = cotangents(psd, 0.9, jdeq.SHINE(max_ratio=1e6))
    guarded, _, _ = cotangents(psd, 0.9, jdeq.SHINE())
    too_long = np.linalg.norm(free, axis=1) > 1.3 * np.linalg.norm(v, axis=1)
    assert too_long.mean() > 0.5
    np.testing.assert_allclose(guarded[too_long], v[too_long], atol=1e-12)
    np.testing.assert_allclose(guarded[~too_long], free[~too_long], atol=1e-12)
    assert np.all(np.linalg.norm(guarded, axis=1) <= 1.3 * np.linalg.norm(v, axis=1) + 1e-9)


@pytest.mark.parametrize("refine_with", ["fixed_point_iter", "broyden"])
def test_refinement_reduces_the_true_adjoint_residual(refine_with):
    errors = []
    for refine in (0, 5, 40):
        backward = jdeq.SHINE(refine=refine, refine_with=refine_with)
        y, exact, _ = cotangents(matrix, 0.8, backward)
        errors.append(np.linalg.norm(y - exact))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_exact_for_one_unknown():
    total = lambda a: jdeq.deq(
        lambda z: a * z + 1,
        jnp.zeros((1, 1)),
        solver="broyden",
        backward=jdeq.SHINE(max_ratio=100),
    )[0].sum()
    np.testing.assert_allclose(jax.grad(total)(0.5), 1 / 0.5**2, rtol=1e-10)


@pytest.mark.parametrize("solver", ["fixed_point_iter", "newton", jdeq.Broyden(memory=3)])
def test_solvers_without_an_inverse_are_refused(solver):
    with pytest.raises(TypeError, match="SHINE needs the solver 'anderson', or 'broyden'"):
        jdeq.deq(jnp.cos, jnp.zeros(2), solver=solver, backward="shine")
