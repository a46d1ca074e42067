"""Iterations are counted and states sampled as asked for, unlike in TorchDEQ 0.1.0."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq

from .problems import Tanh, halving, relative_error, solve

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("max_iter, want", [(0, 0.0), (1, 1.0), (2, 2.0)])
def test_anderson_with_one_iteration_is_a_plain_step(max_iter, want):
    """TorchDEQ: max_iter 0, 1, 2 call f twice and return z0 with a lowest residual of 1e8."""
    z, info = solve(halving, jnp.zeros((1, 1)), solver="anderson", max_iter=max_iter)
    np.testing.assert_allclose(z, want, atol=1e-12)  # the secant step is exact on an affine map
    assert info.nfe == max_iter + 1
    np.testing.assert_allclose(info.abs_residual, 1 - want / 2, atol=1e-12)


def test_anderson_with_m_1_is_damped_iteration():
    """TorchDEQ: m=1 raises an IndexError."""
    z, _ = solve(halving, jnp.zeros((1, 1)), solver=jdeq.Anderson(m=1, tau=0.5, max_iter=5))
    np.testing.assert_allclose(z, 2 - 0.75**4, rtol=1e-12)  # the first step is the plain one


def test_anderson_samples_states_from_the_first_iteration():
    """TorchDEQ: of indexing=[1, 2, 5, 8] only two states come back."""
    _, info = solve(
        halving, jnp.zeros((1, 1)), solver="anderson", indexing=[1, 2, 5], backward="jfb"
    )
    np.testing.assert_allclose(np.ravel(info.states), [1, 2, 2, 2], atol=1e-12)


def test_broyden_samples_the_iterations_asked_for():
    """TorchDEQ: indexing=[2, 5, 9] gives the states after 1, 4 and 8 steps."""
    p = Tanh(size=4, batch=1)
    solver = jdeq.Broyden(max_iter=9, return_final=True)
    _, info = solve(
        functools.partial(p.f, p.w), p.z0, solver=solver, indexing=[2, 5, 9], backward="jfb"
    )
    z, inverse, iterates = p.z0[0], -np.eye(4), [p.z0[0]]
    g = np.tanh(z @ p.w.T + p.x[0]) - z
    for _ in range(9):
        step = -inverse @ g
        z = z + step
        g_next = np.tanh(z @ p.w.T + p.x[0]) - z
        change, row = g_next - g, step @ inverse
        inverse = inverse + np.outer(step - inverse @ change, row) / (row @ change)
        g = g_next
        iterates.append(z)
    want = [iterates[i] for i in (2, 5, 9)]
    np.testing.assert_allclose(np.squeeze(info.states, 1), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sampling", [{"indexing": [3]}, {"n_states": 3}], ids=str)
@pytest.mark.parametrize("solver", ["fixed_point_iter", "broyden"])
def test_the_last_state_is_the_solution_however_early_it_was_found(solver, sampling):
    """TorchDEQ: the state of step 3 comes back (error 0.05), and its gradient is 36 percent off."""
    p = Tanh()

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(w):
        _, info = jdeq.deq(
            functools.partial(p.f, w), p.z0, solver=solver, max_iter=150, tol=1e-9, **sampling
        )
        return jnp.sum(info.states[-1] ** 2) / 2, info

    (_, info), gradient = loss(p.w)
    assert len(info.states) == (3 if "n_states" in sampling else 2)
    assert info.converged.all() and info.steps.max() < 150
    np.testing.assert_allclose(info.states[-1], p.solution(), rtol=0, atol=1e-7)
    assert relative_error(gradient, p.gradient()) < 1e-6
