"""Each sample of a batch is solved as if it were alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq
from jdeq import Status

from ..problems import matrix
from ..tolerances import steered
from .solvers import SOLVERS, STOPPING


def gained_tanh(gain, w, x):
    """f of samples with their own gain: the larger, the more iterations it takes."""
    return lambda z: jnp.tanh(gain[:, None] * (z @ w) + x)


@pytest.mark.slow
@pytest.mark.parametrize("stop_mode", ["abs", "rel"])
@pytest.mark.parametrize("solver", STOPPING)
def test_a_sample_does_not_depend_on_its_batch(solver, stop_mode):
    rng = np.random.default_rng(3)
    w = jnp.asarray(matrix(12, 1.0))
    gain = jnp.asarray(rng.uniform(0.1, 0.95, 64))
    x = jnp.asarray(rng.normal(size=(64, 12)))
    order = rng.permutation(64)
    settings = SOLVERS[solver](max_iter=100, tol=1e-4, stop_mode=stop_mode)

    @jax.jit
    def solve(gain, x):
        return jdeq.deq(gained_tanh(gain, w, x), jnp.zeros_like(x), solver=settings)

    z, info = solve(gain, x)
    assert len(set(info.steps.tolist())) > 3
    z_shuffled, shuffled = solve(gain[order], x[order])
    alone = [solve(gain[i : i + 1], x[i : i + 1]) for i in range(64)]
    z_alone = np.concatenate([z for z, _ in alone])
    for field in ("steps", "status"):
        together = np.asarray(getattr(info, field))
        np.testing.assert_array_equal(getattr(shuffled, field), together[order])
        np.testing.assert_array_equal([getattr(i, field)[0] for _, i in alone], together)
    close = steered(z.dtype, steps=100, rate=0.95)  # of residuals that start at 1
    np.testing.assert_allclose(z_shuffled, z[order], rtol=0, atol=close)
    np.testing.assert_allclose(z_alone, z, rtol=0, atol=close)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_sample_that_breaks_leaves_the_others_bit_identical(solver):
    rng = np.random.default_rng(4)
    w = jnp.asarray(matrix(12, 0.8), jnp.float32)
    x = jnp.asarray(rng.normal(size=(64, 12)), jnp.float32)
    settings = SOLVERS[solver](max_iter=30)
    broken = jnp.arange(64) == 17

    @jax.jit
    def solve(break_at):  # from the third evaluation on, |z| of a sample is beyond break_at
        def f(z):
            fz = jnp.tanh(z @ w + x)
            bad = jnp.sqrt(jnp.sum(fz**2, -1, keepdims=True)) > break_at[:, None]
            return jnp.where(bad, jnp.nan, fz)

        return jdeq.deq(f, jnp.zeros_like(x), solver=settings)

    whole, info = solve(jnp.full((64,), jnp.inf, jnp.float32))
    partial, broken_info = solve(jnp.where(broken, 1e-3, jnp.inf).astype(jnp.float32))
    np.testing.assert_array_equal(partial[~broken], whole[~broken])
    np.testing.assert_array_equal(broken_info.status[~broken], info.status[~broken])
    assert broken_info.status[17] == Status.NONFINITE
    np.testing.assert_array_equal(partial[17], 0)  # z0: no finite residual was ever met


@pytest.mark.slow
@pytest.mark.parametrize("solver", STOPPING)
def test_a_converged_sample_is_frozen_bit_for_bit(solver):
    w, x = jnp.asarray(matrix(6, 0.9)), jnp.asarray(np.random.default_rng(5).normal(size=(2, 6)))
    gain = jnp.array([0.1, 1.0])
    settings = SOLVERS[solver](max_iter=60, tol=1e-3)

    @jax.jit
    def solve(limit):
        f = gained_tanh(gain, w, x)
        return jdeq.deq(f, jnp.zeros_like(x), solver=settings, max_iter=limit)

    (short, info), (long, _) = (solve(jnp.asarray(n)) for n in (20, 60))
    assert info.status[0] == Status.CONVERGED and info.steps[0] < 20
    np.testing.assert_array_equal(short[0], long[0])
