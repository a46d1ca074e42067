"""`info.nfe` is how often `f` was evaluated: counted by `f` itself, whatever solves and steps."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq

X = jnp.linspace(-1, 1, 12).reshape(4, 3)
W = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)) * 0.4)
STAGES = jdeq.Fallback((jdeq.FixedPointIter(max_iter=6), jdeq.Broyden(max_iter=30, check_every=4)))
SEPARATE = jdeq.Fallback(  # some samples are done by the first, others go on to the second
    (jdeq.FixedPointIter(max_iter=25, tol=1e-6), jdeq.Anderson(max_iter=30, tol=1e-6)), tol=1e-6
)
PHANTOM = jdeq.PhantomGrad(5, 0.6)


CASES: dict[str, Any] = {
    "plain": {"solver": "fixed_point_iter"},
    "a fixed number": {"solver": "simple_fixed_point_iter", "max_iter": 7},
    "asked seldom": {"solver": "anderson", "check_every": 7},
    "asked less often than there are passes": {"solver": "broyden", "check_every": 1000},
    "unrolled through the solver": {"solver": "anderson", "backward": "unroll"},
    "unrolled, in a fixed number": {"solver": "simple_fixed_point_iter", "backward": "unroll"},
    "phantom steps": {"backward": PHANTOM},
    "phantom steps alone": {"max_iter": 0, "backward": jdeq.PhantomGrad(12)},
    "phantom steps with states": {"backward": jdeq.PhantomGrad(6, sup_gap=2), "solver": "broyden"},
    "several states": {"n_states": 3, "backward": jdeq.PhantomGrad(4, state_steps=(2, 3))},
    "several states, implicitly": {"n_states": 3, "max_iter": 9},
    "JFB": {"backward": "jfb", "indexing": (2, 5)},
    "SHINE": {"backward": "shine", "solver": "broyden"},
    "in turn": {"solver": STAGES},
    "in turn, and apart": {"solver": SEPARATE},
    "in turn, unrolled": {"solver": STAGES, "backward": "unroll"},
}
LINEAR = ("neumann", "cg", "gmres", "bicgstab", jdeq.GMRES(restart=2))


def count(affine=False, z0=X, **how):
    calls = []

    def f(z):
        jax.debug.callback(lambda: calls.append(1))
        return z @ W + X if affine else jnp.tanh(z @ W + X)

    _, info = jax.block_until_ready(jax.jit(lambda z: jdeq.deq(f, z, **how))(z0))
    jax.effects_barrier()
    return len(calls), int(info.nfe), info


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_evaluation_counts(name):
    calls, nfe, _ = count(**CASES[name])
    assert nfe == calls > 1


@pytest.mark.slow
@pytest.mark.parametrize("solver", LINEAR, ids=str)
def test_products_of_affine_solvers_are_evaluations(solver):
    calls, nfe, _ = count(affine=True, solver=solver)
    assert nfe == calls


def test_newton_counts_products_besides():
    calls, nfe, info = count(solver="newton")
    assert calls == 2 * int(info.steps.max()) + 1  # a linearisation evaluates f, too
    assert nfe >= calls + info.steps.max()


def test_unrolling_makes_its_steps_and_looks_at_the_outcome():
    z, info = jdeq.get_deq(f_max_iter=0, grad=12)(lambda z: 0.5 * z + X, jnp.zeros_like(X))
    assert info.nfe == 13
    np.testing.assert_allclose(z, (2 - 0.5**11) * X, rtol=1e-12)
    np.testing.assert_array_equal(info.solver_status, info.status)


def test_before_and_after_the_phantom_steps():
    """A solver that always runs out, and steps that bring its state below the tolerance."""
    how = {"solver": "fixed_point_iter", "max_iter": 4, "tol": 1e-3}
    f = lambda z: 0.5 * z + 1
    alone = jdeq.deq(f, jnp.zeros((2, 1)), **how)[1]
    after = jdeq.deq(f, jnp.zeros((2, 1)), backward=jdeq.PhantomGrad(9), **how)[1]
    assert np.all(alone.status == jdeq.Status.MAX_ITER) and np.all(after.converged)
    np.testing.assert_array_equal(after.solver_status, alone.status)
    assert "2 CONVERGED (2 MAX_ITER by the solver alone)" in repr(after)
    assert "alone" not in repr(alone)


@pytest.mark.slow
def test_an_empty_batch():
    for how in CASES.values():
        info = jdeq.deq(lambda z: 0.5 * z, jnp.zeros((0, 3)), **how)[1]
        assert info.nfe == 0 and info.solver_status.shape == (0,)


@pytest.mark.slow
@pytest.mark.parametrize("batch_dims", [0, 1])
def test_a_lane_counts_what_it_takes_alone(batch_dims):
    gains = jnp.array([0.1, 0.5, 0.9])
    f = lambda gain: lambda z: gain * z + 1
    z0 = jnp.zeros((1,) * batch_dims + (2,))
    solve = lambda gain: (
        jdeq.deq(f(gain), z0, solver=STAGES, backward=PHANTOM, batch_dims=batch_dims)[1].nfe
    )
    np.testing.assert_array_equal(jax.vmap(solve)(gains), [solve(gain) for gain in gains])
