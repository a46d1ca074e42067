"""Problems without a solution, or with one that can't be reached, in every solver."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq
from jdeq import Status

from .machine import needs_float16
from .marks import some_of
from .tolerances import steered

pytestmark = pytest.mark.slow

SOLVERS = {
    "fixed_point_iter": jdeq.FixedPointIter,
    "simple_fixed_point_iter": jdeq.SimpleFixedPointIter,
    "anderson": jdeq.Anderson,
    "anderson, type I": lambda **s: jdeq.Anderson(kind=1, **s),
    "broyden": jdeq.Broyden,
    "broyden, limited memory": lambda **s: jdeq.Broyden(memory=4, **s),
    "broyden, bad": lambda **s: jdeq.Broyden(update="bad", **s),
    "broyden, line search": lambda **s: jdeq.Broyden(line_search=True, **s),
    "newton": jdeq.Newton,
    "fallback": lambda **s: jdeq.Fallback(("anderson", "broyden"), **s),
}
each_solver = pytest.mark.parametrize(
    "solver",
    some_of(list(SOLVERS), ["fixed_point_iter", "anderson", "broyden", "broyden, bad", "newton"]),
)
START = 0.2
BATCH, WIDTH = 3, 2  # the sample in the middle has the hard problem, the others 0.5 z + 1


def hard_in_the_middle(f):
    middle = jnp.arange(BATCH)[:, None] == 1

    def both(z):
        here = jnp.where(middle, z, START)  # the other samples never meet the hard problem
        return jnp.where(middle, f(here), 0.5 * z + jnp.ones_like(z))

    return both


def solve(f, solver, dtype=jnp.float64, tol=1e-6):
    settings = SOLVERS[solver](max_iter=40, stop_mode="abs", tol=tol)
    z0 = jnp.full((BATCH, WIDTH), START, dtype)
    return jax.jit(lambda z0: jdeq.deq(hard_in_the_middle(f), z0, solver=settings))(z0)


def check(f, z, info, dtype=np.float64, tol=1e-6):
    """`info` tells the truth of every sample, by numpy, and the easy ones are solved."""
    assert np.all(np.isfinite(z))
    z, fz = np.asarray(z, np.float64), np.asarray(hard_in_the_middle(f)(z), np.float64)
    residual = np.linalg.norm(fz - z, axis=1)
    known = np.isfinite(np.asarray(info.abs_residual))
    slack = 4 * float(jnp.finfo(dtype).eps) * np.linalg.norm(z, axis=1).max()
    np.testing.assert_allclose(
        np.asarray(info.abs_residual)[known], residual[known], rtol=1e-2, atol=slack
    )
    np.testing.assert_array_equal(info.converged, np.asarray(info.abs_residual) < tol)
    assert np.all(info.converged[np.array([0, 2])])
    np.testing.assert_allclose(z[[0, 2]], 2, atol=4 * tol)


@each_solver
def test_no_fixed_point_at_all(solver):
    f = lambda z: z + 1
    z, info = solve(f, solver)
    check(f, z, info)
    assert info.status[1] in (Status.MAX_ITER, Status.STALLED, Status.DIVERGED)


@each_solver
def test_a_cycle_of_period_two(solver):
    """Plain iteration goes round for ever; every method that extrapolates finds 0.5."""
    f = lambda z: 1 - z
    z, info = solve(f, solver)
    check(f, z, info)
    plain = solver in ("fixed_point_iter", "simple_fixed_point_iter")
    assert info.status[1] == (Status.MAX_ITER if plain else Status.CONVERGED)


@each_solver
def test_nan_beyond_a_radius(solver):
    """2 z + 5 repels from -5, where f is not a number: its iterates, and its root, break."""
    f = lambda z: jnp.where(jnp.abs(z) > 4, jnp.nan, 2 * z + 5)
    z, info = solve(f, solver)
    check(f, z, info)
    assert info.status[1] in (Status.NONFINITE, Status.MAX_ITER, Status.STALLED)
    if solver == "fixed_point_iter":
        assert info.status[1] == Status.NONFINITE
        np.testing.assert_array_equal(z[1], START)


@needs_float16
@each_solver
def test_overflow_in_float16(solver):
    """exp z overflows float16 beyond 11; it has no fixed point."""
    z, info = solve(jnp.exp, solver, jnp.float16, tol=2e-2)
    check(jnp.exp, z, info, jnp.float16, tol=2e-2)
    if solver == "fixed_point_iter":
        assert info.status[1] == Status.NONFINITE
    assert not info.converged[1]


@each_solver
def test_the_others_are_what_they_are_beside_an_easy_one(solver):
    easy, _ = solve(lambda z: 0.5 * z + 1, solver)
    for f in (lambda z: z + 1, lambda z: jnp.where(z > 0.1, jnp.nan, z)):
        hard, info = solve(f, solver)
        drift = steered(easy.dtype, steps=60, rate=0.5)
        np.testing.assert_allclose(hard[np.array([0, 2])], easy[np.array([0, 2])], rtol=drift)
    assert info.status[1] == Status.NONFINITE  # at the start already
    np.testing.assert_array_equal(hard[1], START)
