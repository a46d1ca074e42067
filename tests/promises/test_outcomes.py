"""What comes back: the best state and its own residual, at every precision and scale."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq
from jdeq import Status

from ..machine import FLOAT16
from ..problems import affine, matrix, tanh_system
from ..tolerances import rounding
from .solvers import SOLVERS, STOPPING


@pytest.mark.slow
@pytest.mark.parametrize("stop_mode", ["abs", "rel"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_residual_reported_is_that_of_the_state_returned(solver, stop_mode):
    f, params, z0 = tanh_system(seed=7)
    z, info = jdeq.deq(
        lambda z: f(params, z), z0, solver=SOLVERS[solver](max_iter=6, stop_mode=stop_mode)
    )
    fz = f(params, z)
    flat = lambda t: np.concatenate([np.reshape(t[k], (4, -1)) for k in ("a", "b")], 1)
    absolute, size = np.linalg.norm(flat(fz) - flat(z), axis=1), np.linalg.norm(flat(fz), axis=1)
    close = rounding(fz["a"].dtype, terms=5 + 6, size=size.max())  # what is left of sums of 11
    np.testing.assert_allclose(info.abs_residual, absolute, rtol=0, atol=close)
    relative = absolute / (size + 1e-9)
    np.testing.assert_allclose(info.rel_residual, relative, rtol=0, atol=close / size.min())
    assert info.abs_trace.shape == info.rel_trace.shape == (4, 6)
    np.testing.assert_allclose(np.nanmin(info.abs_trace, 1), absolute, rtol=0, atol=close)


@pytest.mark.slow
@pytest.mark.parametrize("solver", STOPPING)
def test_the_best_state_comes_back_when_the_map_repels(solver):
    f = lambda z: 3 * z + jnp.sin(5 * z)  # fixed point 0 repels, and Newton-like steps overshoot
    z0 = jnp.array([[0.3, -0.2], [1.0, 2.0]])
    z, info = jdeq.deq(f, z0, solver=SOLVERS[solver](max_iter=15, tol=1e-12, stop_mode="abs"))
    everything = np.concatenate([np.linalg.norm(f(z0) - z0, axis=1)[:, None], info.abs_trace], 1)
    np.testing.assert_allclose(info.abs_residual, np.nanmin(everything, 1), rtol=1e-12)
    np.testing.assert_array_equal(info.steps, np.nanargmin(everything, 1))
    last, final = jdeq.deq(
        f,
        z0,
        solver=SOLVERS[solver](max_iter=15, tol=1e-12, stop_mode="abs", return_final=True),
    )
    np.testing.assert_allclose(final.abs_residual, np.linalg.norm(f(last) - last, axis=1))


def test_a_tolerance_beyond_the_dtype_ends_in_stalled():
    w = jnp.asarray(matrix(8, 0.9), jnp.float32)
    f = lambda z: jnp.tanh(z @ w) + 1
    _, info = jdeq.deq(f, jnp.zeros((5, 8), jnp.float32), tol=1e-12, max_iter=2000)
    assert np.all((info.status == Status.STALLED) | (info.abs_residual == 0))
    assert info.nfe < 500


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.bfloat16, FLOAT16, jnp.float32, jnp.float64])
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_precision_reaches_its_own_resolution(solver, dtype):
    w, b = matrix(32, 0.4), np.random.default_rng(0).normal(size=(3, 32))
    f = lambda z: z @ jnp.asarray(w, dtype) + jnp.asarray(b, dtype)
    z, info = jdeq.deq(f, jnp.zeros((3, 32), dtype), solver=SOLVERS[solver]())
    assert z.dtype == dtype
    assert info.rel_residual.dtype == (jnp.float64 if dtype == jnp.float64 else jnp.float32)
    tol = float(jnp.finfo(dtype).eps) ** 0.75
    assert np.all(info.converged) and np.all(info.rel_residual < tol)
    want = np.asarray(affine(jnp.asarray(w), jnp.asarray(b)))
    error = np.linalg.norm(z.astype(jnp.float64) - want) / np.linalg.norm(want)
    assert error < 10 * tol


@functools.partial(jax.jit, static_argnames="solver")
def solve_in_units(unit, solver):
    w, b = jnp.asarray(matrix(16, 0.95)), jnp.asarray(np.random.default_rng(1).normal(size=(4, 16)))
    return jdeq.deq(
        lambda z: z @ w + unit * b, jnp.zeros_like(b), solver=solver, max_iter=60, tol=1e-7
    )


@pytest.mark.slow
@pytest.mark.parametrize("solver", STOPPING)
@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e3, 1e6])
def test_rescaling_the_state_changes_nothing(solver, scale):
    z, info = solve_in_units(1.0, solver)
    scaled, scaled_info = solve_in_units(scale, solver)
    np.testing.assert_array_equal(info.steps, scaled_info.steps)
    np.testing.assert_allclose(scaled / scale, z, rtol=1e-5)


def test_iterations_may_be_limited_at_run_time_without_recompiling():
    traces = []

    @jax.jit
    def solve(limit):
        def f(z):
            traces.append(1)
            return 0.9 * z + 1

        return jdeq.deq(
            f, jnp.zeros((2, 3)), solver=jdeq.FixedPointIter(max_iter=30), max_iter=limit
        )

    for limit in (0, 3, 17, 99):
        z, info = solve(jnp.asarray(limit, jnp.int32))
        steps = min(limit, 30)
        np.testing.assert_allclose(z, 10 * (1 - 0.9**steps), rtol=1e-12)
        np.testing.assert_array_equal(info.steps, steps)
        assert info.nfe == steps + 1
    assert len(traces) == 1
