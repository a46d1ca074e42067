"""Nothing that a solve was called with outlives it, and no tracer leaves its transformation."""

import gc
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq
from tests.marks import EXHAUSTIVE

from .problems import matrix

W = matrix(6, 0.6)
X = np.random.default_rng(0).normal(size=(3, 6))
SOLVERS = ("fixed_point_iter", "simple_fixed_point_iter", "anderson", "broyden", "newton")
FALLBACK = jdeq.Fallback(("anderson", "broyden"))
BACKWARDS = ("ift", "phantom", "jfb", "unroll", "shine")
PAIRS = [
    pytest.param(s, backward, marks=() if {s, backward} & {"broyden", "ift"} else EXHAUSTIVE)
    for s in (*SOLVERS, FALLBACK)
    for backward in (*BACKWARDS, jdeq.IFT(forward_mode=True), jdeq.IFT("bicgstab"))
    if not (backward == "unroll" and s == "newton")
    and not (backward == "shine" and s not in ("anderson", "broyden"))
]


def loss(w, x, solver, backward):
    f = lambda z: jnp.tanh(z @ w + jax.nn.relu(x))
    options: Any = {} if isinstance(solver, jdeq.Solver) else {"max_iter": 8}
    z, _ = jdeq.deq(f, jnp.zeros_like(x), solver=solver, backward=backward, **options)
    return z.sum()


@pytest.mark.slow
@pytest.mark.parametrize("backward", [*BACKWARDS, jdeq.IFT(forward_mode=True)])
@pytest.mark.parametrize("use", ["value", "gradient"])
def test_what_an_eager_call_was_given_is_freed(backward, use):
    def value(w, x, z0):
        f = lambda z: jnp.tanh(z @ w + jax.nn.relu(x))
        return jdeq.deq(f, z0, solver="broyden", backward=backward)[0].sum()

    args = jnp.asarray(W), jnp.asarray(X), jnp.zeros(X.shape)
    run = value if use == "value" else jax.grad(value, (0, 1))
    run(*args)
    watched = [weakref.ref(a) for a in args]
    del args
    gc.collect()
    assert [ref() is None for ref in watched] == [True] * 3


@pytest.mark.slow
@pytest.mark.parametrize(("solver", "backward"), PAIRS)
def test_no_tracer_leaks(solver, backward):
    w, x = jnp.asarray(W), jnp.asarray(X)
    run = lambda w, x: loss(w, x, solver, backward)
    with jax.checking_leaks():  # it is traces that leak: nothing need be compiled
        jax.jit(jax.grad(run)).trace(w, x)
        jax.jit(jax.vmap(run, in_axes=(0, None))).trace(jnp.stack([w, w]), x)


@pytest.mark.slow
@pytest.mark.parametrize("backward", ["ift", "phantom", "unroll"])
def test_no_tracer_leaks_through_a_solver_with_arrays(backward):
    run = lambda tau: loss(jnp.asarray(W), jnp.asarray(X), jdeq.FixedPointIter(tau=tau), backward)
    with jax.checking_leaks():
        jax.jit(jax.grad(run)).trace(jnp.asarray(0.8))
        jax.jit(jax.vmap(run)).trace(jnp.asarray([0.8, 0.9]))
