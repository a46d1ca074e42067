"""What plain iteration does, where that is known; and which solvers `diagnose` names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq
from jdeq.diagnostics import Behaviour
from jdeq.diagnostics.orbit import Moves, behaviour

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


def seen(f, z, n_iters=100, *, attracts):
    """The behaviour of the orbit of `z`, iterated in NumPy."""
    before, z = z, f(z)
    moves = []
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(n_iters):
            fz = f(z)
            moves.append((fz - z, fz - before, fz))
            before, z = z, fz
        norms = [np.array([np.linalg.norm(m[i]) for m in moves]) for i in range(3)]
    return behaviour(Moves(*norms), np.finfo(z.dtype).eps, attracts)


def logistic(r):
    return lambda z: (r * z * (1 - z)).astype(z.dtype)


def henon(z):
    return np.stack([1 - 1.4 * z[0] ** 2 + z[1], 0.3 * z[0]])


def lorenz(z):
    x, y, w = z
    return z + 0.01 * np.stack([10 * (y - x), x * (28 - w) - y, x * y - 8 / 3 * w])


def spiral(rate):
    turn = np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    return lambda z: rate * turn @ z + 1


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_chaos_does_not_contract(dtype):
    # their fixed points repel: the slope of the logistic map is 2 - r, Henon's largest is -1.92
    starts = RNG.uniform(0.05, 0.95, (200, 1)).astype(dtype)
    for r in (3.6, 3.7, 3.9, 3.99):
        for z in starts:
            assert seen(logistic(r), z, attracts=False)[0] != Behaviour.CONTRACTS
    for z in starts:
        assert seen(henon, 0.2 * np.append(z, z[::-1]), attracts=False)[0] == Behaviour.WANDERS
    for z in starts:
        found, _ = seen(lorenz, np.append(10 * z, [5, 20]), attracts=False)
        assert found in (Behaviour.WANDERS, Behaviour.DIVERGES)


def test_chaos_shows_no_trend():
    kinds = [seen(logistic(3.9), z, attracts=True)[0] for z in RNG.uniform(0.05, 0.95, (1000, 1))]
    assert kinds.count(Behaviour.WANDERS) == 1000


@pytest.mark.parametrize("n_iters", [30, 100])
def test_orbits_that_are_known(n_iters):
    z = np.array([0.3])
    see = lambda f, z, attracts: seen(f, z, n_iters, attracts=attracts)
    for r, attracts, want in (
        (2.5, True, Behaviour.CONTRACTS),
        (2.95, True, Behaviour.CONTRACTS),
        (3.2, False, Behaviour.OSCILLATES),
        (3.5, False, Behaviour.WANDERS),  # between four states
        (3.83, False, Behaviour.WANDERS),  # three
        (4.5, False, Behaviour.DIVERGES),
    ):
        assert see(logistic(r), z, attracts)[0] == want, r
    for rate, want in (
        (0.5, Behaviour.CONTRACTS),
        (0.99, Behaviour.CONTRACTS),
        (1.0, Behaviour.WANDERS),
        (1.01, Behaviour.DIVERGES),
        (2.0, Behaviour.DIVERGES),
    ):
        found, measured = see(spiral(rate), np.array([1.0, 0.0]), rate < 1)
        assert found == want, rate
        np.testing.assert_allclose(measured, rate, rtol=1e-4)
    assert see(lambda z: z + 1, z, False) == (Behaviour.WANDERS, 1.0)


@pytest.mark.parametrize("n_iters", [1, 2, 3])
def test_of_few_moves_little_is_said(n_iters):
    z = np.array([0.3])
    assert seen(logistic(3.9), z, n_iters, attracts=False)[0] != Behaviour.CONTRACTS
    assert seen(lambda z: 0 * z, z, n_iters, attracts=True) == (Behaviour.CONTRACTS, 0.0)


@pytest.mark.slow
def test_a_chaotic_batch_and_its_advice():
    r = jnp.asarray([2.5, 3.2] + [3.9] * 30, jnp.float32)[:, None]
    z0 = jnp.linspace(0.1, 0.9, 32, dtype=jnp.float32)[:, None]
    found = jdeq.diagnose(lambda z: r * z * (1 - z), z0, KEY)
    want = [Behaviour.CONTRACTS, Behaviour.OSCILLATES] + [Behaviour.WANDERS] * 30
    np.testing.assert_array_equal(found.behaviour, want)
    plain = found.trials["fixed_point_iter"]
    np.testing.assert_array_equal(plain.converged, [True] + [False] * 31)
    assert plain.nfe == 101
    spoken_of = [int(s.split()[0]) for s in found.advice if "plain iteration" in s]
    assert sum(spoken_of) == 31
    assert any("damp with tau=0.62, or use broyden (" in s for s in found.advice)  # 1.8 / 2.9


def gain_of_four():
    w = 4 * jax.random.orthogonal(jax.random.key(0), 32, dtype=jnp.float32)
    x = 0.1 * jax.random.normal(jax.random.key(1), (8, 32), jnp.float32)
    return lambda z: jnp.tanh(z @ w + x), jnp.zeros((8, 32), jnp.float32)


@pytest.mark.slow
def test_where_newton_alone_arrives_it_is_named():
    f, z0 = gain_of_four()
    found = jdeq.diagnose(f, z0, KEY)
    assert list(found.trials) == ["broyden", "fixed_point_iter", "anderson", "newton"]
    for name, trial in found.trials.items():
        steps = 50 if name == "newton" else 100
        z, info = jdeq.deq(f, z0, solver=name, max_iter=steps)
        residual = np.linalg.norm(f(z) - z, axis=1) / np.linalg.norm(f(z), axis=1)
        np.testing.assert_array_equal(trial.converged, residual < 1e-5, err_msg=name)
        assert trial.nfe == info.nfe and trial.converged.all() == (name == "newton")
    assert np.all(found.behaviour == Behaviour.WANDERS) and np.all(found.status == 0)
    cost = found.trials["newton"].nfe
    assert "8 of 8: plain iteration fails and no damping cures it" in found.advice[0]
    assert f"use newton ({cost} evaluations of f), or normalise" in found.advice[0]
    assert "contracts" not in repr(found) and "did not converge" not in repr(found)


@pytest.mark.slow
def test_where_nothing_arrives_that_is_said():
    shift = jnp.asarray([[0.5], [1.0]], jnp.float32)  # z + z^2 + 1/4 has no fixed point
    f = lambda z: jnp.where(shift == 1, z + z**2 + 0.25, 0.5 * z + 1)
    found = jdeq.diagnose(f, jnp.zeros((2, 1), jnp.float32), KEY, solver="anderson")
    assert next(iter(found.trials)) == "anderson"
    assert [bool(t.converged[1]) for t in found.trials.values()] == [False] * 4
    (said,) = found.advice
    assert said.startswith("1 of 2: anderson, fixed_point_iter, broyden, newton did not converge")


@pytest.mark.slow
def test_a_solver_of_ones_own_is_tried_first_and_sets_the_tolerance():
    f = lambda z: -4 * z + 5
    solver = jdeq.Anderson(m=2, max_iter=7, tol=1e-2, stop_mode="abs")
    found = jdeq.diagnose(f, jnp.zeros((1, 1), jnp.float32), KEY, solver=solver)
    assert list(found.trials) == ["anderson", "fixed_point_iter", "broyden", "newton"]
    assert found.status == 0 and found.behaviour == Behaviour.DIVERGES
    np.testing.assert_allclose(found.max_tau, 0.4, rtol=1e-5)
