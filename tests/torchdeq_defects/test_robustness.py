"""Hard maps, scales and precisions do not break a solve, unlike in TorchDEQ 0.1.0."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq
from jdeq import Status

from ..machine import FLOAT16
from ..problems import matrix
from .problems import Tanh, halving, solve

pytestmark = pytest.mark.slow


def test_a_vector_taken_for_scalars_does_not_end_in_nan():
    """TorchDEQ: Broyden returns NaN where coupled unknowns are counted as samples."""
    p = Tanh(size=32, radius=0.6, batch=1)
    f = lambda z: jnp.tanh(p.w @ z + p.x[0])
    z, info = solve(f, p.z0[0], solver="broyden", max_iter=60)
    assert np.isfinite(z).all() and np.isfinite(info.abs_residual).all()


@pytest.mark.parametrize("solver, best", [("fixed_point_iter", 7), ("anderson", 1), ("broyden", 1)])
def test_best_state_survives_a_blow_up(solver, best):
    """TorchDEQ: 0 * inf in the mixing of states turns a best residual of 3.4e-3 into NaN."""
    bad, target = jnp.array([[jnp.inf], [jnp.nan], [0.0]]), jnp.array([[1.0], [1.0], [0.5]])
    f = lambda z: jnp.where(z > 1.99, bad, 0.5 * z + target)
    z, info = solve(f, jnp.zeros((3, 1)), solver=solver)
    last_good = 2 - 2.0 ** (1 - best)  # from there Anderson and Broyden jump to 2
    np.testing.assert_allclose(z[:, 0], [last_good, last_good, 1], rtol=1e-11)
    np.testing.assert_allclose(info.abs_residual[:2], 2.0**-best, rtol=1e-12)
    np.testing.assert_array_equal(info.steps[:2], best)
    np.testing.assert_array_equal(
        info.status, [Status.NONFINITE, Status.NONFINITE, Status.CONVERGED]
    )


def test_an_overflow_leaves_the_best_state_and_the_other_samples():
    """TorchDEQ: the overflowing sample is returned as NaN, after a lowest residual of 494."""
    z, info = solve(lambda z: z**2, jnp.array([[0.5], [10.0]]), tol=1e-6, stop_mode="abs")
    np.testing.assert_allclose(z[:, 0], [0, 10], atol=1e-6)
    np.testing.assert_array_equal(info.status, [Status.CONVERGED, Status.NONFINITE])
    np.testing.assert_allclose(info.abs_residual[1], 90)


@functools.partial(jax.jit, static_argnames="solver")
def solve_tanh(w, x, solver):
    return jdeq.deq(lambda z: jnp.tanh(z @ w.T + x), jnp.zeros_like(x), solver=solver)


@pytest.fixture(scope="module")
def sixty_maps():
    return [Tanh(size=16, radius=0.9, batch=4, seed=10 * i) for i in range(60)]


@pytest.mark.parametrize("memory", [3, 5, 8, None])
def test_limited_memory_broyden_solves_all_of_60_random_maps(sixty_maps, memory):
    """TorchDEQ: 7, 9 and 4 of 60 maps fail with memory 3, 5 and 8, some with NaN."""
    solver = jdeq.Broyden(memory=memory, max_iter=200, tol=1e-8, stop_mode="abs")

    solve_all = jax.vmap(functools.partial(solve_tanh, solver=solver))
    z, info = solve_all(np.stack([p.w for p in sixty_maps]), np.stack([p.x for p in sixty_maps]))
    assert np.sum(~np.all(info.converged, -1)) == 0
    want = [p.solution() for p in sixty_maps]
    np.testing.assert_allclose(z, want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("radius", [0.6, 0.95])
def test_anderson_is_faster_than_plain_iteration_down_to_1e_10(radius):
    """TorchDEQ: lam=1e-4 in absolute terms: 80 steps, where plain iteration needs 39."""
    p = Tanh(size=16, radius=radius, batch=4)
    run = functools.partial(solve_tanh, p.w, p.x)
    _, plain = run(jdeq.FixedPointIter(tol=1e-10, stop_mode="abs", max_iter=300))
    z, mixed = run(jdeq.Anderson(tol=1e-10, stop_mode="abs", max_iter=300))
    assert mixed.converged.all()
    assert (np.asarray(mixed.steps) < 0.75 * np.asarray(plain.steps)).all()
    np.testing.assert_allclose(z, p.solution(), rtol=0, atol=1e-8)


def test_anderson_does_not_depend_on_the_units_of_z():
    """TorchDEQ: 89, 87, 65 or 39 steps for one problem in units of 1e-4, 1e-2, 1 or 100."""
    p = Tanh(size=16, radius=0.6, batch=4)

    @jax.jit
    @jax.vmap
    def solve_in(unit):
        f = lambda z: unit * p.f(p.w, z / unit)
        return jdeq.deq(f, unit * p.z0, solver="anderson", tol=1e-6)

    units = jnp.array([1e-4, 1e-2, 1, 100])
    z, info = solve_in(units)
    assert info.converged.all()
    np.testing.assert_array_equal(info.steps, np.tile(info.steps[2], (4, 1)))
    np.testing.assert_allclose(z / units[:, None, None], np.tile(z[2], (4, 1, 1)), atol=1e-5)


@pytest.mark.parametrize("lam", [0.0, None])
def test_a_sample_at_its_solution_does_not_disturb_anderson(lam):
    """TorchDEQ: with lam=0 a singular matrix error ends the solve of the whole batch."""
    w = matrix(4, 0.5)
    z0 = jnp.array([[0.0] * 4, [1.0] * 4])
    solver = jdeq.Anderson(lam=lam, tol=1e-9, stop_mode="abs")
    z, info = solve(lambda z: jnp.tanh(z @ w.T), z0, solver=solver)
    np.testing.assert_allclose(z, 0, atol=1e-8)
    assert info.steps[0] == 0 and info.converged.all()


@pytest.mark.parametrize("dtype", [FLOAT16, jnp.bfloat16])
def test_anderson_runs_in_half_precision(dtype):
    """TorchDEQ: NotImplementedError, no LU factorisation of such matrices on the CPU."""
    z, info = solve(halving, jnp.zeros((2, 3), dtype), solver="anderson")
    assert z.dtype == dtype and info.converged.all()
    np.testing.assert_allclose(z.astype(jnp.float32), 2, rtol=0.05)
