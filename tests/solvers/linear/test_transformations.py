"""Linear solvers under derivatives, vmap, sharding and states of several leaves."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq
from jdeq import Status

from ...problems import affine, matrix
from .systems import KRYLOV, MATRICES, V, solve_system

pytestmark = pytest.mark.slow


def test_derivatives_of_second_order_and_in_forward_mode():
    w, b = jnp.asarray(matrix(3, 0.4)), jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)))

    def solve(w, forward_mode=False):
        z, _ = jdeq.deq(
            lambda z: z @ w + b,
            jnp.zeros_like(b),
            solver=jdeq.FixedPointIter(tol=1e-14, max_iter=100),
            backward=jdeq.IFT(solver="gmres", tol=1e-12, forward_mode=forward_mode),
        )
        return z

    loss = lambda w: jnp.sum(solve(w) ** 2)
    want = jax.hessian(lambda w: jnp.sum(affine(w, b) ** 2))(w)
    np.testing.assert_allclose(jax.jit(jax.jacrev(jax.jacrev(loss)))(w), want, rtol=0, atol=1e-9)
    both = functools.partial(solve, forward_mode=True)
    want = jax.jacfwd(lambda w: affine(w, b))(w)
    np.testing.assert_allclose(jax.jit(jax.jacfwd(both))(w), want, rtol=0, atol=1e-9)


def compiled(fn, *args) -> Any:
    return jax.jit(fn).lower(*args).compile()


@pytest.mark.parametrize("solver", KRYLOV)
def test_vmap_is_one_batched_solve_with_the_same_outcome(solver):
    a = jnp.asarray(MATRICES["symmetric", 0.9])
    gains = jnp.linspace(0.1, 1, 4)
    settings = KRYLOV[solver](max_iter=60, tol=1e-6)

    def batch(gains, b):
        return jdeq.deq(lambda z: gains[:, None] * (z @ a) + b, b, solver=settings)

    def one(gain, b):
        return jdeq.deq(lambda z: gain * (z @ a) + b, b, solver=settings, batch_dims=0)

    run, run_lanes = compiled(batch, gains, V), compiled(jax.vmap(one), gains, V)
    (z, info), (z_lanes, lanes) = run(gains, V), run_lanes(gains, V)
    assert len(set(info.steps.tolist())) > 2
    np.testing.assert_allclose(z_lanes, z, atol=1e-8)
    np.testing.assert_array_equal(lanes.steps, info.steps)
    np.testing.assert_array_equal(lanes.status, info.status)
    assert info.nfe == lanes.nfe.max()
    loops = [each.as_text().count(" while(") for each in (run, run_lanes)]
    assert loops == [2, 2]  # cycles, and products in a cycle


@pytest.mark.parametrize("solver, kind", [(s, "explicit") for s in KRYLOV] + [("gmres", "auto")])
def test_a_sharded_batch_stays_sharded(solver, kind):
    axis = {"auto": jax.sharding.AxisType.Auto, "explicit": jax.sharding.AxisType.Explicit}[kind]
    mesh = jax.make_mesh((4,), ("data",), axis_types=(axis,))
    a = jnp.asarray(MATRICES["symmetric", 0.9])
    settings = KRYLOV[solver](max_iter=60, tol=1e-10)

    def loss(a, b):
        f = lambda z: z @ a + b
        here = jdeq.FixedPointIter(max_iter=2)
        return jnp.sum(jdeq.deq(f, b, solver=here, backward=jdeq.IFT(solver=settings))[0] * b)

    grad = jax.grad(loss, 1)
    with jax.set_mesh(mesh):
        sharded = jax.device_put(V, jax.NamedSharding(mesh, jax.P("data")))
        everywhere = jax.device_put(a, jax.NamedSharding(mesh, jax.P()))
        run = compiled(grad, everywhere, sharded)
        got = run(everywhere, sharded)
    assert got.sharding.is_equivalent_to(sharded.sharding, 2)
    for collective in ("all-gather", "all-to-all", "collective-permute", "reduce-scatter"):
        assert collective not in run.as_text()
    np.testing.assert_allclose(got, jax.jit(grad)(a, V), atol=1e-8)


@pytest.mark.parametrize("solver", KRYLOV)
def test_states_of_several_leaves_are_one_system_per_sample(solver):
    """Leaves (B, 4), (B, 2, 3) coupled by a symmetric matrix, in blocks."""
    dense = jnp.asarray(matrix(10, 0.6, symmetric=True))
    v = jnp.asarray(np.random.default_rng(3).normal(size=(4, 10)))
    join = lambda y: jnp.concatenate([y["a"], y["b"].reshape(-1, 6)], 1)
    split = lambda x: {"a": x[:, :4], "b": x[:, 4:].reshape(-1, 2, 3)}

    @jax.jit
    def run(v):
        y, info = solve_system(
            lambda y: split(join(y) @ dense),
            split(v),
            solver=KRYLOV[solver](tol=1e-12, max_iter=100),
        )
        return join(y), info.status

    y, status = run(v)
    assert np.all(status == Status.CONVERGED)
    np.testing.assert_allclose(y, affine(dense, v), atol=1e-10)
