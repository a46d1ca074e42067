"""JAX's own debugging tools see through a solve: `jax_debug_nans`, `checkify`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify

import jdeq
from tests.marks import EXHAUSTIVE

X = jnp.linspace(-1, 1, 6).reshape(2, 3)
EASY = ("fixed_point_iter", "simple_fixed_point_iter", "anderson", "broyden", "newton", "fallback")
AFFINE = ("gmres", "bicgstab", "cg", "neumann")
BACKWARDS = ("ift", "phantom", "jfb", "unroll", "shine")
ALIKE = ("simple_fixed_point_iter", "anderson", "fallback")
PAIRS = [
    pytest.param(solver, "ift", marks=EXHAUSTIVE if solver in ALIKE else ()) for solver in EASY
] + [("broyden", b) for b in BACKWARDS[1:]]


@pytest.fixture
def no_nan():
    """A program that makes NaN raises."""
    with jax.debug_nans(True):
        yield


def loss(x, f, **settings: Any):
    z, info = jdeq.deq(lambda z: f(z, x), jnp.zeros_like(x), max_iter=12, **settings)
    return z.sum(), info


def tanh(z, x):
    return jnp.tanh(0.5 * z + x)


@pytest.mark.slow
@pytest.mark.parametrize(("solver", "backward"), PAIRS)
def test_sound_solves_hand_out_neither_nan_nor_infinity(no_nan, solver, backward):
    run = jax.value_and_grad(
        lambda x: loss(x, tanh, solver=solver, backward=backward), has_aux=True
    )
    with jax.debug_infs(True):
        (_, info), gradient = jax.jit(run)(X)
    assert np.all(np.isfinite(info.abs_trace)) and np.all(np.isfinite(gradient))


@pytest.mark.slow
@pytest.mark.parametrize("backward", BACKWARDS)
def test_eager_solves_under_debug_nans(no_nan, backward):
    run = lambda x: loss(x, tanh, solver="anderson", backward=backward)
    jax.value_and_grad(run, has_aux=True)(X)


@pytest.mark.slow
@pytest.mark.parametrize("solver", AFFINE)
def test_affine_solves_under_debug_nans(no_nan, solver):
    run = lambda x: loss(x, lambda z, x: 0.5 * z + x, solver=solver, backward=jdeq.IFT(solver))
    jax.jit(jax.value_and_grad(run, has_aux=True))(X)


@pytest.mark.slow
@pytest.mark.parametrize("status", ["MAX_ITER", "STALLED"])
@pytest.mark.parametrize("solver", EASY)
def test_failures_that_are_no_nan_pass_debug_nans(no_nan, solver, status):
    f = (lambda z, x: z + 1 + x) if status == "MAX_ITER" else (lambda z, x: 0.5 * z + x)
    options = {} if status == "MAX_ITER" else {"tol": 1e-30}
    jax.jit(lambda x: loss(x, f, solver=solver, **options))(X)


@pytest.mark.slow
def test_other_uses_pass_debug_nans(no_nan):
    one = lambda x: jdeq.deq(lambda z: tanh(z, x), jnp.zeros(3), batch_dims=0, n_states=3)
    jax.jit(jax.vmap(one))(X)
    jax.vmap(jax.jacrev(lambda x: one(x)[0]))(X)
    jax.jit(lambda x: jdeq.solve_stream(tanh, x, slots=1))(X)
    jdeq.solve_stream(tanh, X, slots=1)
    jdeq.diagnose(lambda z: tanh(z, X), jnp.zeros_like(X), jax.random.key(0))
    layer = jdeq.get_deq(core="sliced", n_states=2, f_max_iter=8)
    jax.jit(lambda x: layer(lambda z: tanh(z, x), jnp.zeros_like(x)))(X)


def test_a_nan_that_f_makes_is_reported():
    with jax.debug_nans(True), pytest.raises(FloatingPointError):
        jax.jit(lambda x: loss(x, bad)[1].abs_trace)(X)


def bad(z, x):
    """After some iterations, NaN."""
    return 0.5 * z + 1 + jnp.log(1.2 - z) * 0 + 0 * x


def checked(z, x):
    checkify.check(jnp.all(z < 0.9), "too large")
    return 0.5 * z + 0.5 + 0 * x


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "use"),
    [
        *(pytest.param(s, "grad", marks=EXHAUSTIVE if s in ALIKE else ()) for s in EASY),
        *(("broyden", u) for u in ("plain", "jit", "vmap")),
    ],
)
def test_a_failed_check_in_f_comes_out(solver, use):
    """Not at the start: it takes some iterations until z is too large."""
    uses = {
        "plain": lambda x: loss(x, checked, solver=solver)[0],
        "jit": jax.jit(lambda x: loss(x, checked, solver=solver)[0]),
        "grad": jax.grad(lambda x: loss(x, checked, solver=solver)[0]),
        "vmap": jax.vmap(lambda x: loss(x, checked, solver=solver)[0]),
    }
    error, _ = checkify.checkify(uses[use])(X)
    assert "too large" in (error.get() or "")
    assert checkify.checkify(lambda x: loss(x, tanh, solver=solver)[0])(X)[0].get() is None


@pytest.mark.slow
@pytest.mark.parametrize(  # a fallback has Anderson, Broyden and Newton
    ("solver", "backward"),
    [
        ("simple_fixed_point_iter", "ift"),
        pytest.param("fallback", "ift", marks=EXHAUSTIVE),
        ("broyden", "phantom"),
        ("broyden", "unroll"),
    ],
)
def test_automatic_checks_name_what_f_does_and_nothing_else(solver, backward):
    run = lambda f: jax.jit(jax.grad(lambda x: loss(x, f, solver=solver, backward=backward)[0]))
    with jax.numpy_dtype_promotion("standard"):  # checkify's own sums of indices
        error, _ = checkify.checkify(run(tanh), errors=checkify.automatic_checks)(X)
    assert error.get() is None
    error, _ = checkify.checkify(run(bad), errors=checkify.float_checks)(X)
    assert "log" in (error.get() or "")
