"""Iterates, residuals and outcomes of the solvers, against numbers that TorchDEQ 0.1.0 made.

Where the conventions differ, the translation is spelled out here: TorchDEQ numbers its steps by
the calls of f, so fixed point iteration and Anderson measure our z_k in step k + 1 and hand back
the image of z_k; Broyden measures z_k in step k and hands back z_k.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq

from ..golden import fields
from ..tolerances import solved
from .problems import PROBLEMS, flat

pytestmark = pytest.mark.slow


class Method(NamedTuple):
    solver: Any
    ahead: int  # their step that measures z_k is k + ahead
    column: int  # column j of their trace belongs to z_(j + column)


absolute = functools.partial(jdeq.Anderson, m=6, lam_mode="absolute")
METHODS = {
    "fp": Method(jdeq.FixedPointIter(), 1, -1),
    "fp_damped": Method(jdeq.FixedPointIter(tau=0.7), 1, -1),
    "anderson": Method(absolute(lam=1e-4), 1, 1),
    "anderson_damped": Method(absolute(lam=1e-4, tau=0.8), 1, 1),
    "anderson_lam0": Method(absolute(lam=0.0), 1, 1),
    "broyden": Method(jdeq.Broyden(), 0, 0),
}
PLAIN = ("fp", "anderson", "broyden")
RUNS = [
    (name, method)
    for name in ("solver_single_a", "solver_single_b", "solver_multi")
    for method in (PLAIN if name == "solver_multi" else METHODS)
]
RUNS_BY_MODE = [(*run, "abs") for run in RUNS] + [
    (name, method, "rel") for name, method in RUNS if method in PLAIN and name != "solver_multi"
]
runs = pytest.mark.parametrize("name, method", RUNS)
runs_by_mode = pytest.mark.parametrize("name, method, mode", RUNS_BY_MODE)
modes = pytest.mark.parametrize("mode", ["abs", "rel"])


@functools.partial(jax.jit, static_argnames=("f", "solver", "indexing"))
def solve(f, params, z0, limit, *, solver, indexing):
    """At most `limit` iterations; the states come as they are, JFB leaves values alone."""
    return jdeq.deq(
        functools.partial(f, params),
        z0,
        solver=solver,
        backward="jfb",
        indexing=indexing,
        max_iter=limit,
    )


def run(name, method, limit, indexing=(1, 4, 7), **settings):
    p = PROBLEMS[name]
    solver = dataclasses.replace(METHODS[method].solver, **settings)
    return solve(p.f, p.params, p.z0, jnp.array(limit), solver=solver, indexing=indexing)


def as_theirs(name, method, z):
    """What TorchDEQ hands back where we hand back z."""
    p, tau = PROBLEMS[name], METHODS[method].solver.tau
    if method.startswith("broyden"):
        return flat(z)
    fz = flat(p.f(p.params, z))
    return fz if method.startswith("anderson") else (1 - tau) * flat(z) + tau * fz


def factor(method):
    """TorchDEQ measures |z_(k+1) - z_k| in damped fixed point iteration, we |f(z_k) - z_k|."""
    return 0.7 if method == "fp_damped" else 1.0


@functools.cache
def nine_iterations(name, method):
    """z_0 ... z_9 and what was measured, without looking for the best."""
    z, info = run(name, method, 9, tuple(range(1, 10)), tol=1e-14, max_iter=25, return_final=True)
    return [PROBLEMS[name].z0, *info.states[:-1]], z, info


@runs
def test_f_is_called_at_the_same_points(name, method):
    iterates, _, _ = nine_iterations(name, method)
    want = PROBLEMS[name].golden[f"{method}__capped__abs__f_inputs"]
    got = np.stack([flat(z) for z in iterates])[: len(want)]
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-11)


@runs
def test_residuals_along_the_way(name, method):
    _, _, info = nine_iterations(name, method)
    want = fields(PROBLEMS[name].golden, f"{method}__capped_final__abs")
    column = METHODS[method].column
    for key, scale in {"abs_trace": factor(method), "rel_trace": 1}.items():
        if key == "rel_trace" and method == "fp_damped":
            continue  # theirs divides by the damped image
        theirs = want[key][:, max(1, 1 - column) :]  # what comes before measures z_0, or nothing
        first = max(1, 1 + column)
        ours = getattr(info, key)[:, first - 1 : first - 1 + theirs.shape[1]]
        np.testing.assert_allclose(scale * ours, theirs, rtol=0, atol=1e-11)


@runs
def test_the_last_state_when_asked_for(name, method):
    iterates, _, _ = nine_iterations(name, method)
    last = iterates[9 - METHODS[method].ahead]
    want = PROBLEMS[name].golden[f"{method}__capped_final__abs__z"]
    np.testing.assert_allclose(as_theirs(name, method, last), want, rtol=0, atol=1e-11)


@runs_by_mode
def test_the_best_state_when_the_cap_ends_a_solve(name, method, mode):
    ahead = METHODS[method].ahead
    z, info = run(name, method, 9 - ahead, tol=1e-12, max_iter=400, stop_mode=mode)
    want = fields(PROBLEMS[name].golden, f"{method}__capped__{mode}")
    np.testing.assert_allclose(as_theirs(name, method, z), want["z"], rtol=0, atol=1e-11)
    np.testing.assert_array_equal(info.steps + ahead, want["nstep"])
    np.testing.assert_allclose(
        factor(method) * info.abs_residual, want["abs_lowest"], rtol=0, atol=1e-11
    )
    states = [as_theirs(name, method, s) for s in info.states[:-1]]
    theirs = want["states"]  # at their steps 2, 5, 8; Anderson's have none before step 3
    np.testing.assert_allclose(states[-len(theirs) :], theirs, rtol=0, atol=1e-11)
    assert not info.converged.any()


LONG = "{1}__capped_long__{2}__z"


@pytest.mark.parametrize(
    "name, method, mode",
    [run for run in RUNS_BY_MODE if LONG.format(*run) in PROBLEMS[run[0]].golden],
)
def test_the_best_state_after_25_steps(name, method, mode):
    limit = 25 - METHODS[method].ahead
    z, _ = run(name, method, limit, tol=1e-12, max_iter=400, stop_mode=mode)
    want = PROBLEMS[name].golden[LONG.format(name, method, mode)]
    close = 1e-11 + solved(1e-12, rate=0.95, size=5)  # where ours stops; theirs goes on
    np.testing.assert_allclose(as_theirs(name, method, z), want, rtol=0, atol=close)


@runs_by_mode
def test_the_solution_is_newtons(name, method, mode):
    z, info = run(name, method, 400, tol=1e-12, max_iter=400, stop_mode=mode)
    np.testing.assert_allclose(flat(z), PROBLEMS[name].newton, rtol=0, atol=1e-9)
    assert info.converged.all()


@pytest.mark.parametrize("name", ["solver_single_a", "solver_single_b", "solver_multi"])
def test_limited_memory_broyden_reaches_newtons_solution(name):
    z, info = run(name, "broyden", 400, tol=1e-12, max_iter=400, memory=5)
    np.testing.assert_allclose(flat(z), PROBLEMS[name].newton, rtol=0, atol=1e-9)
    assert info.converged.all()


@pytest.mark.parametrize("name", ["solver_single_a", "solver_single_b"])
@pytest.mark.parametrize("method", PLAIN)
def test_a_loose_tolerance_stops_the_slowest_sample_where_torchdeq_stops(name, method):
    z, info = run(name, method, 30, tol=1e-3, max_iter=30, stop_mode="abs")
    want = fields(PROBLEMS[name].golden, f"{method}__loose__abs")
    slowest = np.asarray(info.steps == info.steps.max())
    theirs = want["nstep"][slowest]
    np.testing.assert_array_equal(info.steps[slowest] + METHODS[method].ahead, theirs)
    got = as_theirs(name, method, z)[slowest]
    np.testing.assert_allclose(got, want["z"][slowest], rtol=0, atol=1e-11)


@pytest.mark.parametrize("method", PLAIN)
@modes
def test_a_batch_gives_what_torchdeq_gives_sample_by_sample(method, mode):
    name = "solver_batch_coupling"
    z, info = run(name, method, 200, tol=1e-4, max_iter=200, stop_mode=mode)
    want = fields(PROBLEMS[name].golden, f"{method}__single__{mode}")
    np.testing.assert_array_equal(info.steps + METHODS[method].ahead, want["nstep"])
    np.testing.assert_allclose(as_theirs(name, method, z), want["z"], rtol=0, atol=1e-10)
