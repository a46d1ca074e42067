"""SHINE against dense matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq
from jdeq._problem import Problem

from .problems import matrix

pytestmark = pytest.mark.slow

N = 24


def shine_estimate(f, v, **settings):
    """y = -B^T v by the compact form, and B at the returned state by the textbook update."""
    solver = jdeq.Broyden(max_iter=60, **settings)
    problem = Problem.build(f, jnp.zeros_like(v), solver, batch_dims=1)
    solution = solver.solve(
        problem.f, problem.z0, space=problem.space, limit=problem.limit, indexing=(), loop="while"
    )
    return solution, solver.apply_transposed_inverse(
        problem.space, solution.memory, solution.steps, v
    )


def dense_inverse(f, z0, steps, tau):
    """Broyden's good update written out, for one sample (N,)."""
    g = lambda z: np.asarray(f(z[None])[0]) - z
    z, inverse = np.asarray(z0), -np.eye(z0.size)
    for _ in range(steps):
        s = -tau * inverse @ g(z)
        y = g(z + s) - g(z)
        inverse = inverse + np.outer(s - inverse @ y, s @ inverse) / (s @ inverse @ y)
        z = z + s
        np.testing.assert_allclose(inverse @ y, s, atol=1e-8)  # the secant equation
    return inverse


@pytest.mark.parametrize("tau", [1.0, 0.7])
def test_estimate_is_the_dense_product(tau):
    rng = np.random.default_rng(0)
    w = jnp.asarray(matrix(N, 0.8))
    b, v = (jnp.asarray(rng.normal(size=(3, N))) for _ in range(2))
    f = lambda z, b: jnp.tanh(z @ w + b)
    solution, y = shine_estimate(lambda z: f(z, b), v, tol=1e-4, tau=tau)
    assert len(set(solution.steps.tolist())) > 1  # samples stopped at different iterations
    for i in range(3):
        inverse = dense_inverse(
            lambda z, i=i: f(z, b[i : i + 1]), np.zeros(N), int(solution.steps[i]), tau
        )
        np.testing.assert_allclose(y[i], -inverse.T @ v[i], atol=1e-8)


def cotangents(kind, radius, backward, seeds=8):
    """Parameter-free comparison: gradients with respect to b in z = z w + b are y itself."""
    w = np.stack([kind(N, radius, s) for s in range(seeds)])
    rng = np.random.default_rng(1)
    b, v = (jnp.asarray(rng.normal(size=(seeds, N))) for _ in range(2))

    def total(b):
        f = lambda z: jnp.einsum("si,sij->sj", z, jnp.asarray(w)) + b
        settings = jdeq.Broyden(max_iter=200, tol=1e-4)
        return jnp.sum(v * jdeq.deq(f, jnp.zeros_like(b), solver=settings, backward=backward)[0])

    y = np.asarray(jax.jit(jax.grad(total))(b))
    exact = np.stack([np.linalg.solve(np.eye(N) - w[s], v[s]) for s in range(seeds)])
    return y, exact, np.asarray(v)


def cosine(a, b):
    return np.sum(a * b, -1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def psd(size, radius, seed):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))
    return q @ np.diag(np.linspace(0, radius, size)) @ q.T


@pytest.mark.parametrize("radius", [0.9, 0.99])
def test_better_than_jacobian_free_on_gaussian_spectra(radius):
    y, exact, v = cotangents(matrix, radius, jdeq.SHINE(max_ratio=1e6))
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


@pytest.mark.parametrize("solver", ["anderson", jdeq.Broyden(memory=3)])
def test_other_solvers_are_refused(solver):
    with pytest.raises(TypeError, match="SHINE needs the solver 'broyden'"):
        jdeq.deq(jnp.cos, jnp.zeros(2), solver=solver, backward="shine")
