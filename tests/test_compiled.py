"""What the compiled program looks like: loops, memory, compilations, collectives."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq
from tests.marks import EXHAUSTIVE, some_of

from .problems import matrix
from .tolerances import steered

pytestmark = pytest.mark.slow

SOLVERS = {
    "fixed_point_iter": jdeq.FixedPointIter,
    "anderson": jdeq.Anderson,
    "broyden": jdeq.Broyden,
}
PAIRS = [
    pytest.param(
        solver, kind, marks=() if (kind == "auto") != (solver == "broyden") else EXHAUSTIVE
    )
    for solver in SOLVERS
    for kind in ("auto", "explicit")
]
W = jnp.asarray(matrix(16, 0.8))
B = jnp.asarray(np.random.default_rng(0).normal(size=(32, 16)))


def compiled(fn, *args) -> Any:
    return jax.jit(fn).lower(*args).compile()


def count_whiles(fn, *args):
    return compiled(fn, *args).as_text().count(" while(")


@pytest.mark.parametrize("solver", some_of(list(SOLVERS), ["fixed_point_iter", "broyden"]))
def test_vmap_is_one_batched_loop_with_the_same_outcome(solver):
    gains = jnp.linspace(0.1, 1, 32)
    settings = SOLVERS[solver](max_iter=100, tol=1e-4)

    def batch(gains, b):
        f = lambda z: jnp.tanh(gains[:, None] * (z @ W) + b)
        return jdeq.deq(f, jnp.zeros_like(b), solver=settings)

    def one(gain, b):
        return jdeq.deq(
            lambda z: jnp.tanh(gain * (z @ W) + b), jnp.zeros_like(b), solver=settings, batch_dims=0
        )

    z, info = jax.jit(batch)(gains, B)
    z_lanes, lanes = jax.jit(jax.vmap(one))(gains, B)
    drift = steered(z.dtype, steps=100, rate=0.8)
    np.testing.assert_allclose(z_lanes, z, rtol=0, atol=drift)
    np.testing.assert_array_equal(lanes.steps, info.steps)
    np.testing.assert_array_equal(lanes.status, info.status)
    np.testing.assert_allclose(lanes.rel_trace, info.rel_trace, rtol=drift)
    # each lane counts what it would have taken alone
    np.testing.assert_array_equal(lanes.nfe, info.steps + 1)
    assert info.nfe == lanes.nfe.max()

    assert count_whiles(jax.vmap(one), gains, B) == count_whiles(batch, gains, B) == 1
    grad = lambda fn: jax.grad(lambda g, b: fn(g, b)[0].sum(), 1)
    # backward: plain iteration, then the products of a cycle, in a loop of cycles
    assert count_whiles(jax.vmap(grad(one)), gains, B) == count_whiles(grad(batch), gains, B) == 4
    assert count_whiles(jax.vmap(jax.vmap(one, (None, 0)), (0, None)), gains, B) == 1


BACKWARDS = {
    "ift": lambda solver: jdeq.IFT(solver=solver, max_iter=20),
    "phantom": lambda solver: jdeq.PhantomGrad(steps=3),
    "jfb": lambda solver: jdeq.JFB(),
}


@pytest.mark.parametrize("backward", BACKWARDS)
@pytest.mark.parametrize("solver", ["fixed_point_iter", "anderson"])
def test_memory_of_a_gradient_does_not_grow_with_the_iterations(solver, backward):
    wide = jnp.zeros((64, 16))

    def temp_bytes(max_iter):
        def loss(w):
            z, _ = jdeq.deq(
                lambda z: jnp.tanh(z @ w + 1),
                wide,
                solver=SOLVERS[solver](max_iter=max_iter),
                backward=BACKWARDS[backward](solver),
            )
            return z.sum()

        return compiled(jax.grad(loss), W).memory_analysis().temp_size_in_bytes

    assert temp_bytes(10) == temp_bytes(1000)


def test_memory_of_unrolling_does_grow():
    def temp_bytes(max_iter, checkpoint):
        def loss(w):
            f = lambda z: jnp.tanh(jnp.tanh(jnp.tanh(z @ w) @ w) @ w)
            z, _ = jdeq.deq(
                f,
                jnp.ones((64, 16)),
                solver=jdeq.FixedPointIter(max_iter=max_iter),
                backward=jdeq.Unroll(checkpoint=checkpoint),
            )
            return z.sum()

        return compiled(jax.grad(loss), W).memory_analysis().temp_size_in_bytes

    state = 64 * 16 * 8
    assert temp_bytes(100, True) - temp_bytes(10, True) > 90 * state
    assert temp_bytes(100, False) > 1.5 * temp_bytes(100, True)


@pytest.mark.parametrize("shape", [(32, 16), (1, 40, 8)])
@pytest.mark.parametrize(
    "solver", [jdeq.Anderson(), jdeq.Broyden(memory=5, max_iter=5)], ids=["anderson", "broyden"]
)
def test_histories_are_written_in_place(solver, shape):
    """A copy of the history at each iteration would cost more than all else."""
    x = jnp.ones(shape, jnp.float32)
    program = compiled(lambda x: jdeq.deq(lambda z: jnp.tanh(z) + x, x, solver=solver), x)
    batch, *features = shape
    history = f"f32[{','.join(map(str, (batch, 5, *features)))}]"
    text = program.as_text()
    assert history in text
    loop = text[: text.index("ENTRY")]  # the program's start may copy
    assert not [line for line in loop.splitlines() if history in line and " copy(" in line]


@pytest.mark.parametrize("solver", [jdeq.Broyden(), jdeq.GMRES()])
def test_no_small_matrix_is_copied(solver):
    """They are larger than the history where many samples are narrow."""
    x = jnp.ones((4000, 3), jnp.float32)
    program = compiled(lambda x: jdeq.deq(lambda z: x - 0.3 * z, x, solver=solver), x)
    text = program.as_text()
    loops = text[: text.index("ENTRY")]
    copies = [line for line in loops.splitlines() if " copy(" in line]
    assert copies  # of vectors there are some
    assert not [line for line in copies if re.search(r"f32\[4000,\d+,\d+", line)]


def test_a_training_loop_compiles_once():
    traces = []

    @jax.jit
    def step(w, b):
        traces.append(1)

        def loss(w):
            f = lambda z: jnp.tanh(z @ w + b)
            z, _ = jdeq.deq(f, jnp.zeros_like(b), solver=jdeq.Broyden(max_iter=10))
            return jnp.mean((z - 0.1) ** 2)

        value, grad = jax.value_and_grad(loss)(w)
        return value, w - 0.1 * grad

    w, values = W, []
    for i in range(100):
        value, w = step(w, jnp.roll(B, i, 0))
        values.append(value)
    assert len(traces) == 1
    assert values[-1] < 0.9 * values[0]


def test_f_is_traced_a_fixed_number_of_times():
    calls = []

    def f(z):
        calls.append(1)
        return jnp.cos(z)

    jax.jit(lambda z: jdeq.deq(f, z, solver="anderson", max_iter=99)[0]).lower(B)
    assert len(calls) == 1
    jax.jit(jax.grad(lambda z: jdeq.deq(f, z, solver="anderson", max_iter=99)[0].sum())).lower(B)
    assert len(calls) == 2


def meshes():
    auto, explicit = jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit
    return {
        "auto": jax.make_mesh((8,), ("data",), axis_types=(auto,)),
        "explicit": jax.make_mesh((8,), ("data",), axis_types=(explicit,)),
    }


@pytest.mark.slow
@pytest.mark.parametrize(("solver", "kind"), PAIRS)
def test_a_sharded_batch_stays_sharded(solver, kind):
    mesh = meshes()[kind]
    settings = SOLVERS[solver](max_iter=60, tol=1e-4)

    def solve(w, b):
        return jdeq.deq(
            lambda z: z @ w + b,
            jnp.zeros_like(b),
            solver=settings,
            backward=jdeq.IFT(solver=settings),
        )

    loss = lambda w, b: jnp.sum(solve(w, b)[0] ** 2)
    with jax.set_mesh(mesh):
        sharded = jax.device_put(B, jax.NamedSharding(mesh, jax.P("data")))
        w = jax.device_put(W, jax.NamedSharding(mesh, jax.P()))
        z, info = jax.jit(solve)(w, sharded)
        assert z.sharding.is_equivalent_to(sharded.sharding, z.ndim)
        assert info.steps.sharding.is_equivalent_to(sharded.sharding, 1)
        grads = jax.jit(jax.grad(loss, (0, 1)))(w, sharded)
        assert grads[1].sharding.is_equivalent_to(sharded.sharding, 2)
        forward = compiled(solve, w, sharded).as_text()
        both = compiled(jax.grad(loss, (0, 1)), w, sharded).as_text()
    for text in (forward, both):
        for collective in ("all-gather", "all-to-all", "collective-permute", "reduce-scatter"):
            assert collective not in text
    # forward: scalars, for "anyone still running?", for the range of squares, and nfe at the end, a
    # number for the solver and one for what follows upon it
    reduced = [
        shape
        for line in forward.splitlines()
        if " all-reduce(" in line
        for shape in re.findall(r"\w+\[[\d,]*\]", line.split("=")[1].split(" all-reduce(")[0])
    ]
    assert reduced and {*reduced} <= {"pred[]", "s32[]", "s32[2]", "u32[]", "u8[]"}
    drift = steered(z.dtype, steps=60, rate=0.8)
    np.testing.assert_allclose(z, solve(W, B)[0], rtol=0, atol=drift)
    np.testing.assert_array_equal(info.steps, solve(W, B)[1].steps)
    alone = jax.jit(jax.grad(loss, (0, 1)))(W, B)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-3, atol=1e-3), grads, alone)


@pytest.mark.slow
@pytest.mark.parametrize(("solver", "kind"), PAIRS)
def test_features_may_be_sharded(solver, kind):
    mesh = meshes()[kind]
    gain = jnp.linspace(0.1, 0.9, 16)

    def solve(gain, b):
        f = lambda z: jnp.tanh(jnp.expand_dims(gain, 0) * z + b)
        return jdeq.deq(f, jnp.zeros_like(b), solver=SOLVERS[solver](max_iter=60))

    with jax.set_mesh(mesh):
        b = jax.device_put(B, jax.NamedSharding(mesh, jax.P(None, "data")))
        gains = jax.device_put(gain, jax.NamedSharding(mesh, jax.P("data")))
        z, info = jax.jit(solve)(gains, b)
        text = compiled(solve, gains, b).as_text()
        assert z.sharding.is_equivalent_to(b.sharding, 2)
        grad = jax.jit(jax.grad(lambda g, b: solve(g, b)[0].sum()))(gains, b)
    assert "all-gather" not in text
    np.testing.assert_allclose(z, solve(gain, B)[0], atol=1e-5)
    want = jax.grad(lambda g, b: solve(g, b)[0].sum())(gain, B)
    np.testing.assert_allclose(grad, want, rtol=1e-3, atol=1e-3)
