"""`"auto"`: as cheap as plain iteration where that arrives, as sure as the others where not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq
from jdeq.solvers import registry

from ..problems import matrix

N, BATCH = 24, 5
RNG = np.random.default_rng(0)
V = RNG.normal(size=(BATCH, N))


def symmetric(low: float, high: float) -> np.ndarray:
    q, _ = np.linalg.qr(RNG.normal(size=(N, N)))
    return (q * np.linspace(low, high, N)) @ q.T


MATRICES = {  # whether plain iteration arrives within 50
    "radius 0.1": (matrix(N, 0.1), True),
    "radius 0.5": (matrix(N, 0.5), True),
    "radius 0.99": (matrix(N, 0.99), False),
    "slow": (symmetric(-0.5, 0.999), False),
    "symmetric, definite": (symmetric(-5.0, 0.5), False),
    "indefinite": (symmetric(-1.5, 3.0), False),
    "radius above 1": (matrix(N, 1.7), False),
    "non-normal": (0.5 * np.eye(N) + 0.8 * np.eye(N, k=1), False),
}


def backward(w: np.ndarray, solver):
    """The implicit gradient, by z* = (I - w)^{-1} x, and what the backward solve says."""
    said = []
    ift = jdeq.IFT(solver, tol=1e-8, callback=said.append)
    f = lambda z, x: z @ jnp.asarray(w) + x
    start = np.linalg.solve((np.eye(N) - w).T, np.ones((BATCH, N)).T).T

    def loss(x):
        z, _ = jdeq.deq(lambda z: f(z, x), jnp.asarray(start), max_iter=1, backward=ift)
        return jnp.sum(z * V)

    got = jax.jit(jax.grad(loss))(jnp.ones((BATCH, N)))
    jax.effects_barrier()
    return got, said[0]


@pytest.mark.parametrize("name", MATRICES)
def test_the_gradient_is_the_dense_solve(name):
    w, contracts = MATRICES[name]
    got, info = backward(w, "auto")
    want = np.linalg.solve(np.eye(N) - w, V.T).T
    assert np.all(info.converged)
    size = np.linalg.norm(V, axis=1)
    error = np.linalg.norm(got - want, axis=1)
    assert np.all(error < 1e-8 * size / np.linalg.svd(np.eye(N) - w)[1].min())
    if contracts:
        _, plain = backward(w, "fixed_point_iter")
        assert info.nfe == plain.nfe  # not a product more
    else:
        _, gmres = backward(w, "gmres")
        assert np.all(gmres.converged)
        assert info.nfe <= gmres.nfe + 50


def test_the_second_solver_sees_the_others_only():
    rate = np.linspace(0.1, 3.0, BATCH)
    slopes = jnp.asarray(rate[:, None] * np.linspace(-1, 0.3, N))
    f = lambda z: slopes * z + 1
    z, info = jdeq.deq(f, jnp.zeros((BATCH, N)), solver="auto", tol=1e-9, stop_mode="abs")
    assert np.all(info.converged)
    np.testing.assert_allclose(z, 1 / (1 - slopes), rtol=1e-8)
    assert np.all(info.steps[:1] <= 50) and np.all(info.steps[-2:] > 50)


def test_plain_iteration_gives_up_once_it_is_clear():
    rate = jnp.array([0.5, 0.7, 0.95, 1.0, 1.5])[:, None]
    solver = jdeq.FixedPointIter(give_up=True, tol=1e-6, stop_mode="abs")
    f = lambda z: rate * z + 1
    _, info = jdeq.deq(f, jnp.zeros((5, 1)), solver=solver)
    _, patient = jdeq.deq(
        f, jnp.zeros((5, 1)), solver=jdeq.FixedPointIter(tol=1e-6, stop_mode="abs")
    )
    S = jdeq.Status
    np.testing.assert_array_equal(
        info.status, [S.CONVERGED, S.CONVERGED, S.STALLED, S.STALLED, S.STALLED]
    )
    np.testing.assert_array_equal(info.steps[:2], patient.steps[:2])
    assert int(info.nfe) == int(patient.steps[1]) + 1  # the others stopped before
    assert np.all(info.steps[2:] <= 5)


def test_tolerance_zero_gives_up_nothing():
    solver = jdeq.FixedPointIter(give_up=True, tol=0, max_iter=7)
    _, info = jdeq.deq(lambda z: 0.999 * z + 1, jnp.zeros((2, 1)), solver=solver)
    assert int(info.nfe) == 8


@pytest.mark.parametrize("name", ["radius 0.5", "indefinite"])
def test_under_vmap_and_on_a_mesh(name):
    w = jnp.asarray(MATRICES[name][0])
    want = np.linalg.solve(np.eye(N) - w, V.T).T
    f = lambda z, x: z @ w + x
    start = jnp.asarray(np.linalg.solve((np.eye(N) - np.asarray(w)).T, np.ones(N)))

    def gradient(v):
        def loss(x):
            ift = jdeq.IFT(tol=1e-9)
            z, _ = jdeq.deq(lambda z: f(z, x), start, max_iter=1, backward=ift, batch_dims=0)
            return jnp.sum(z * v)

        return jax.grad(loss)(1 + 0 * v)  # as varying over the mesh as v

    np.testing.assert_allclose(jax.vmap(gradient)(V), want, rtol=1e-6, atol=1e-7)
    mesh = jax.make_mesh((5,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.shard_map(jax.vmap(gradient), mesh=mesh, in_specs=jax.P("i"), out_specs=jax.P("i"))
    np.testing.assert_allclose(jax.jit(spread)(jnp.asarray(V)), want, rtol=1e-6, atol=1e-7)


def test_backward_auto_is_the_same_from_a_configuration():
    config = jdeq.DEQConfig(ift=True, b_solver="auto", b_max_iter=20, b_tol=1e-5, b_stop_mode="rel")
    backward = config.backward(train=True)
    assert isinstance(backward, jdeq.IFT)
    named = jdeq.IFT("auto", max_iter=20, tol=1e-5, stop_mode="rel")
    assert backward.backward_solver == named.backward_solver
    assert named.backward_solver == jdeq.GMRES(max_iter=20, tol=1e-5, plain=10)
    with pytest.raises(TypeError, match="'auto' has no option 'm'"):
        jdeq.DEQConfig(ift=True, b_solver="auto", b_options={"m": 3}).backward(train=True)


def test_a_solver_of_ones_own_may_take_the_name(monkeypatch):
    monkeypatch.setattr(registry.SOLVERS, "entries", dict(registry.SOLVERS.entries))
    monkeypatch.setattr(registry.AFFINE, "entries", dict(registry.AFFINE.entries))
    jdeq.register_solver("auto", jdeq.BiCGStab, overwrite=True)
    assert isinstance(jdeq.IFT("auto").backward_solver, jdeq.BiCGStab)
