"""Line searches in solvers without derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq
from tests.marks import some_of

from ..tolerances import steered

pytestmark = pytest.mark.slow

SOLVERS = {
    "broyden": jdeq.Broyden,
    "broyden, bad": lambda **s: jdeq.Broyden(update="bad", **s),
    "anderson": jdeq.Anderson,
    "anderson, type I": lambda **s: jdeq.Anderson(kind=1, **s),
}
each_solver = pytest.mark.parametrize("solver", SOLVERS)
A = np.eye(16) + np.random.default_rng(0).normal(size=(16, 16)) / 8
B = np.random.default_rng(1).normal(size=(32, 16))
Z0 = 3 * np.random.default_rng(2).normal(size=(32, 16))


def cubic(b=B):
    """f with g a coupled cubic; from `Z0` the steps of all these solvers explode."""
    return lambda z: z - (z @ A + 0.3 * z**3 - b)


def solve(f, z0, solver, **settings):
    settings = SOLVERS[solver](**{"max_iter": 100, "tol": 1e-8, **settings})
    return jax.jit(lambda z0: jdeq.deq(f, z0, solver=settings))(jnp.asarray(z0))


@each_solver
def test_a_cubic_is_tamed(solver):
    f = cubic()
    plain, searched = (solve(f, Z0, solver, line_search=s)[1] for s in (False, True))
    assert np.mean(plain.converged) < 0.6
    assert np.mean(searched.converged) == 1 or solver == "broyden, bad"
    assert np.mean(searched.converged) > np.mean(plain.converged) + 0.3
    z, info = solve(f, Z0, solver, line_search=True)
    np.testing.assert_allclose(f(z)[info.converged], z[info.converged], atol=1e-6)


@each_solver
def test_the_rule_is_obeyed(solver):
    """Every accepted |g| is within the bound of its window, every rejected one is not."""
    f = cubic(B[:1])
    _, info = solve(f, Z0[:1], solver, line_search=True)
    norms = np.concatenate([[np.linalg.norm(f(Z0[:1]) - Z0[:1])], info.abs_trace[0]])
    accepted, cuts = [norms[0]], 0
    for k, now in enumerate(norms[1 : 1 + int(info.steps[0])], start=1):
        if now > (1 + 1 / (k + 1) ** 2) * max(accepted[-8:]) and cuts < 6:
            cuts += 1
        else:
            accepted, cuts = [*accepted, now], 0
    assert accepted[-1] == norms[int(info.steps[0])]
    assert len(accepted) < int(info.steps[0])  # something was rejected


@each_solver
def test_a_trial_that_is_not_a_number_is_taken_back(solver):
    """g = -6 z + sinh z - 1, not a number beyond 3; its root by bisection."""
    f = lambda z: jnp.where(jnp.abs(z) < 3, -5 * z + jnp.sinh(z) - 1, jnp.nan)
    z0 = jnp.array([[0.0], [2.5], [2.9]])
    _, plain = solve(f, z0, solver)
    assert plain.status.tolist()[1:] == [jdeq.Status.NONFINITE] * 2
    z, info = solve(f, z0, solver, line_search=True)
    low, high = -1.0, 0.0
    for _ in range(60):
        middle = (low + high) / 2
        high, low = (middle, low) if -6 * middle + np.sinh(middle) - 1 < 0 else (high, middle)
    assert np.all(info.converged)
    np.testing.assert_allclose(z, low, atol=1e-7)


@each_solver
def test_without_a_rise_it_changes_nothing(solver):
    f = lambda z: jnp.tanh(0.1 * z @ A + B)
    (z, info), (same, other) = (solve(f, 0 * Z0, solver, line_search=s) for s in (False, True))
    close = steered(z.dtype, steps=int(info.steps.max()), rate=0.5)
    np.testing.assert_allclose(same, z, rtol=0, atol=close)
    np.testing.assert_array_equal(other.steps, info.steps)


@each_solver
def test_samples_are_kept_apart(solver):
    together, info = solve(cubic(), Z0, solver, line_search=True)
    for i in (0, 7):
        f = cubic(B[i : i + 1])
        alone, single = solve(f, Z0[i : i + 1], solver, line_search=True)
        assert int(single.status[0]) == int(info.status[i])
        if info.converged[i]:
            np.testing.assert_allclose(alone[0], together[i], atol=1e-6)


@pytest.mark.parametrize("solver", some_of(list(SOLVERS), list(SOLVERS)[:1]))
def test_cut_steps_can_be_unrolled(solver):
    """Reverse mode through them is finite and agrees with the implicit gradient."""
    f, z0 = cubic(B[:2]), jnp.asarray(Z0[:2])
    settings = SOLVERS[solver](max_iter=60, tol=1e-12, line_search=True)

    def loss(shift, backward):
        z, info = jdeq.deq(lambda z: f(z) + shift[None], z0, solver=settings, backward=backward)
        return jnp.sum(jnp.where(info.converged[:, None], z, 0))

    shift = jnp.zeros(16)
    gradients = [jax.jit(jax.grad(loss), static_argnums=1)(shift, b) for b in ("unroll", "ift")]
    assert np.any(gradients[1] != 0)
    np.testing.assert_allclose(*gradients, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("solver", [jdeq.Broyden, jdeq.Anderson])
def test_the_option_is_checked(solver):
    with pytest.raises(TypeError, match="line_search must be True or False"):
        solver(line_search=3)
