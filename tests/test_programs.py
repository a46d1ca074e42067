"""Calls outside `jit`: a fresh closure is no fresh compilation, and nothing is stale."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq
from jdeq import _programs
from tests.marks import some_of

from .problems import matrix

W = jnp.asarray(matrix(8, 0.6))
X = jnp.asarray(np.random.default_rng(0).normal(size=(3, 8)))
SOLVERS = ("fixed_point_iter", "simple_fixed_point_iter", "anderson", "broyden", "newton")


@contextlib.contextmanager
def compilations():
    """A list that grows by one with each program that XLA compiles."""
    seen = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def solve(w, x, **settings):
    f = lambda z: jnp.tanh(z @ w + jax.nn.relu(x))
    return jdeq.deq(f, jnp.zeros_like(x), **settings)[0]


USES = {
    **{s: lambda w, x, s=s: solve(w, x, solver=s) for s in SOLVERS},
    "fallback": lambda w, x: solve(w, x, solver=jdeq.Fallback(("anderson", "broyden"))),
    "phantom": lambda w, x: solve(w, x, backward="phantom"),
    "unroll": lambda w, x: solve(w, x, backward="unroll", max_iter=5),
    "gradient": lambda w, x: jax.grad(lambda w: solve(w, x).sum())(w),
    "gmres": lambda w, x: jax.grad(lambda w: solve(w, x, backward=jdeq.IFT("gmres")).sum())(w),
    "shine": lambda w, x: jax.grad(lambda w: solve(w, x, solver="broyden", backward="shine").sum())(
        w
    ),
    "vmap": lambda w, x: jax.vmap(lambda x: solve(w, x, batch_dims=0))(x),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "use", some_of(USES, ["broyden", "newton", "phantom", "unroll", "gradient", "vmap"])
)
def test_a_second_call_compiles_nothing_and_sees_new_values(use):
    w, x = 0.5 * W, X + 1
    use(W, X)
    with compilations() as seen:
        got = use(w, x)
    assert not seen
    np.testing.assert_allclose(got, jax.jit(use)(w, x), rtol=1e-9, atol=1e-10)


def test_the_listener_hears():
    with compilations() as seen:
        jax.jit(lambda x: x * 3.25)(X)
    assert seen


def test_other_settings_are_other_programs():
    assert not np.array_equal(solve(W, X, max_iter=2), solve(W, X, max_iter=3))
    assert not np.array_equal(
        solve(W, X, solver=jdeq.FixedPointIter(max_iter=2, tau=0.5)),
        solve(W, X, solver=jdeq.FixedPointIter(max_iter=2, tau=0.6)),
    )


@pytest.mark.slow
def test_what_f_closes_over_may_change_between_calls():
    held = {"c": 1.0, "array": np.ones(2)}
    inner = jax.jit(lambda z: 0.5 * z + jnp.asarray(held["array"]))
    for f in (
        lambda z: 0.5 * z + held["c"] * jnp.ones(2),
        lambda z: 0.5 * z + held["array"] * held["c"],
        lambda z: 0.5 * z + jax.jit(jnp.multiply)(held["c"], jnp.ones(2)),
    ):
        held["c"] = 1.0
        np.testing.assert_allclose(jdeq.deq(f, jnp.zeros(2), tol=1e-9)[0], 2, rtol=1e-8)
        held["c"] = 3.0
        np.testing.assert_allclose(jdeq.deq(f, jnp.zeros(2), tol=1e-9)[0], 6, rtol=1e-8)
    f = lambda z: 0.5 * z + held["array"]
    held["array"][:] = 2.0
    np.testing.assert_allclose(jdeq.deq(f, jnp.zeros(2), tol=1e-9)[0], 4, rtol=1e-8)
    held["array"][:] = 5.0
    np.testing.assert_allclose(jdeq.deq(f, jnp.zeros(2), tol=1e-9)[0], 10, rtol=1e-8)
    # a jitted function keeps what it has traced, here as everywhere in JAX
    np.testing.assert_allclose(jdeq.deq(inner, jnp.zeros(2), tol=1e-9)[0], 10, rtol=1e-8)


def cosine(slope):
    """cos z, with a derivative of its own."""
    f = jax.custom_jvp(jnp.cos)
    f.defjvp(lambda primals, tangents: (f(*primals), slope * tangents[0]))
    return f


@pytest.mark.slow
@pytest.mark.parametrize("backward", ["ift", "phantom", "jfb", "unroll"])
def test_custom_derivatives_are_told_apart(backward):
    """Equal values, other rules: gradients and Newton steps follow the rule of their own f."""

    def gradient(slope):
        f = lambda x: jdeq.deq(
            lambda z: cosine(slope)(z) + x, jnp.zeros(1), backward=backward, max_iter=60
        )[0].sum()
        return jax.grad(f)(0.0)

    first, second = gradient(-0.5), gradient(0.25)
    if backward == "ift":
        np.testing.assert_allclose([first, second], [1 / 1.5, 1 / 0.75], rtol=1e-6)
    assert (backward == "jfb") == (first == second)


def test_newton_follows_the_rule_of_its_own_f():
    counts = []
    for slope in (-0.67, 0.9, -0.67):
        _, info = jdeq.deq(cosine(slope), jnp.zeros((1, 1)), solver="newton", tol=1e-12)
        counts.append(int(info.nfe))
    assert counts[0] == counts[2] != counts[1]


NUMBERS = {
    "operators": lambda c: lambda z: c * jnp.tanh(z) + c / 2 - 0.5 * z,
    "inner functions": lambda c: lambda z: jnp.clip(0.5 * z, -c, c) + jnp.where(z > c, c, 0.1),
    "custom rules": lambda c: lambda z: c * cosine(-0.5)(z),
    "integers": lambda c: lambda z: 0.1 * z + int(10 * c),
    "half": lambda c: lambda z: (c * jnp.cos(z)).astype(z.dtype),
}


@pytest.mark.slow
@pytest.mark.parametrize("use", ["value", "gradient"])
@pytest.mark.parametrize("f", some_of(NUMBERS, ["inner functions", "custom rules", "integers"]))
def test_python_numbers_are_no_reason_to_compile(f, use):
    """As good as arrays: types stay, and each call sees its own value."""

    def run(c, dtype=jnp.float32):
        value = lambda x: jdeq.deq(lambda z: f(c)(z) + x, jnp.zeros((2, 3), dtype))[0].sum()
        return (jax.grad(value) if use == "gradient" else value)(jnp.zeros((2, 3), dtype))

    run(0.1)
    with compilations() as seen:
        got = run(0.3)
    assert len(seen) <= (1 if f is NUMBERS["integers"] else 0)  # int(c) z may be a position
    np.testing.assert_allclose(got, jax.jit(lambda: run(0.3))(), rtol=1e-5)


@pytest.mark.slow
def test_the_programs_kept_are_bounded():
    for i in range(_programs.PROGRAMS + 8):
        jax.eval_shape(lambda z, i=i: jdeq.deq(lambda z: z**i, z)[0], X)  # an int: a program each
    info = _programs._compiled.cache_info()
    assert info.maxsize == info.currsize == _programs.PROGRAMS
