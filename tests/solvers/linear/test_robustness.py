"""Linear solvers on systems that are not for them: what is told, and who is spared."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq
from jdeq import Status

from .systems import KRYLOV, MATRICES, V, solve, solve_system

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["gauss", "non-normal"])
def test_cg_is_flagged_where_the_jacobian_is_not_symmetric(kind):
    a = MATRICES[kind, 0.9]
    y, info = solve(jnp.asarray(a), V, solver=jdeq.CG(max_iter=100, tol=1e-6))
    residual = np.linalg.norm(np.asarray(y) @ a.T + V - y, axis=1)
    assert not np.any(info.converged)
    size = np.linalg.norm(np.asarray(y) @ a.T + V, axis=1)
    replaced = np.all(y == V, axis=1)  # what CG made was worse than nothing: y = v instead
    assert np.all(info.abs_residual[replaced] > 0.5)  # |v| is scaled to 0.5 .. 1
    kept = ~replaced
    np.testing.assert_allclose(info.rel_residual[kept], (residual / size)[kept], rtol=1e-6)


@functools.partial(jax.jit, static_argnames="solver")
def solve_with_gains(last, *, solver):
    """Four systems y = v + gain A y; the last gain is given."""
    gains = jnp.stack([jnp.array(0.3), jnp.array(0.5), jnp.array(0.7), last])[:, None]
    a = jnp.asarray(MATRICES["symmetric", 0.99])
    return solve_system(lambda y: gains * (y @ a), V, solver=solver)


HARD = {"harder": (0.999, None), "singular": (1 / 0.99, None), "NaN": (jnp.nan, Status.NONFINITE)}


@pytest.mark.parametrize("hard", HARD)
@pytest.mark.parametrize("solver", KRYLOV)
def test_a_hard_sample_leaves_the_others_bit_identical(solver, hard):
    run = functools.partial(solve_with_gains, solver=KRYLOV[solver](max_iter=60, tol=1e-9))
    gain, status = HARD[hard]
    (easy, easy_info), (y, info) = run(jnp.array(0.5)), run(jnp.array(gain))
    np.testing.assert_array_equal(y[:3], easy[:3])
    for field in ("steps", "status", "rel_residual", "rel_trace"):
        np.testing.assert_array_equal(getattr(info, field)[:3], getattr(easy_info, field)[:3])
    assert np.all(np.isfinite(y))
    if status is not None:
        assert info.status[3] == status
        np.testing.assert_allclose(y[3], V[3], rtol=1e-15)


@pytest.mark.parametrize("solver", KRYLOV)
def test_a_breakdown_at_once_is_told(solver):
    settings = KRYLOV[solver](tol=1e-10, stop_mode="abs")
    turn = jnp.array([[1.0, 1.0], [-1.0, 1.0]])  # I - A is a rotation: <r, (I - A) r> = 0
    y, info = solve(turn, V[:, :2], solver=settings)
    assert np.all(np.isfinite(y)) and np.all(np.isfinite(info.abs_residual))
    assert np.all(info.status == (Status.CONVERGED if solver == "gmres" else Status.STALLED))
    singular, info = solve(jnp.eye(2), V[:, :2], solver=settings)
    assert np.all(info.status == Status.STALLED) and np.all(np.isfinite(singular))


@pytest.mark.parametrize("solver", KRYLOV)
def test_a_forward_solve_of_a_map_that_is_not_affine_does_not_lie(solver):
    f = lambda z: jnp.cos(3 * z)
    z0 = jnp.array([[0.3, -0.2], [1.0, 2.0]])
    z, info = jdeq.deq(f, z0, solver=solver, max_iter=20)
    np.testing.assert_allclose(info.abs_residual, np.linalg.norm(f(z) - z, axis=1), rtol=1e-12)
    assert np.all(info.abs_residual <= np.linalg.norm(f(z0) - z0, axis=1))
    assert not np.any(info.converged) or np.all(info.rel_residual[info.converged] < 1e-11)


@pytest.mark.parametrize("solver", [*KRYLOV, "neumann"])
def test_at_most_max_iter_products(solver):
    a = jnp.asarray(MATRICES["symmetric", 0.99])
    settings = (KRYLOV | {"neumann": jdeq.Neumann})[solver](max_iter=4, stop_mode="abs", tol=1e-9)

    @jax.jit
    def run(limit):
        return jdeq.deq(lambda z: z @ a + V, V, solver=settings, max_iter=limit)

    for limit in (0, 1, 3, 9):
        z, info = run(jnp.asarray(limit, jnp.int32))
        assert info.abs_trace.shape == (4, 4) and np.all(info.steps <= min(limit, 4))
        assert np.all(info.status == Status.MAX_ITER) and info.nfe <= 2 * min(limit, 4) + 3
        np.testing.assert_allclose(
            info.abs_residual, np.linalg.norm(z @ a + V - z, axis=1), rtol=1e-9
        )
    z, info = jdeq.deq(lambda z: z @ a + V, V, solver=solver, max_iter=0)
    np.testing.assert_array_equal(z, V)
    assert info.abs_trace.shape == (4, 0)


def test_settings_are_checked():
    with pytest.raises(ValueError, match="restart must be >= 1"):
        jdeq.GMRES(restart=0)
    with pytest.raises(ValueError, match="GMRES cannot be unrolled"):
        jdeq.deq(lambda z: 0.5 * z + 1, jnp.zeros((2, 3)), solver="gmres", backward="unroll")
