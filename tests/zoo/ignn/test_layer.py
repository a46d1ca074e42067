import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jdeq
from tests.tolerances import rounding, solved
from tests.zoo.ignn.made import dense, edges_of, random_edges
from zoo.ignn.config import IGNNConfig
from zoo.ignn.layer import RHO_EPS, ImplicitLayer

CONFIG = IGNNConfig(n_features=3, widths=(5,), kappa=0.8)
GRAPHS = IGNNConfig(form="graphs", n_features=3, widths=(5,), kappa=0.8)
DEQ = jdeq.DEQConfig(f_max_iter=200, f_tol=1e-6, ift=True, b_tol=1e-6, b_max_iter=200)
NORMED = dataclasses.replace(DEQ, norm_type="weight_norm")
TOL, RATE = 1e-6, 0.8


def layer_of(config=CONFIG, deq=DEQ, *, large=1.0) -> Any:
    """A layer whose W is `large` times as large as it would be."""
    layer: Any = ImplicitLayer(3, 5, config, deq, rngs=nnx.Rngs(0))
    kernel = nnx.state(layer, nnx.PathContains("w"))
    nnx.update(layer, jax.tree.map(lambda a: a * large, kernel))
    return layer


def features(packs, nodes):
    x = np.random.default_rng(3).normal(size=(packs, nodes, 3))
    return jnp.asarray(x, jnp.float32)


@pytest.mark.parametrize("deq", [DEQ, NORMED], ids=["in place", "straight through"])
@pytest.mark.parametrize("config", [CONFIG, GRAPHS], ids=["measured", "of radius 1"])
def test_the_bound_holds_and_the_state_solves_the_equation(config, deq):
    layer, x = layer_of(config, deq, large=20.0), features(1, 6)
    edges = random_edges(np.random.default_rng(0), 1, 6, 12)
    layer.eval()
    equation = layer.equation(x, edges)
    bound = 0.8 / (edges.rho[0] + RHO_EPS) if config.measures else 0.8
    w = equation.kernel.reshape(5, 5)
    sums = np.abs(w).sum(0)
    np.testing.assert_allclose(sums, bound, rtol=rounding(np.float32, 20))
    if config.measures:
        z, info = jax.jit(layer.solve)(equation)
        assert info.converged.all() and z.shape == (1, 6, 5)
        a = dense(edges, 6)[0].T
        again = np.maximum(a @ z[0] @ w + equation.injection[0], 0)
        np.testing.assert_allclose(again, z[0], atol=solved(TOL, RATE, size=np.abs(z).max() * 6))


def test_the_injection():
    x, edges = features(1, 6), random_edges(np.random.default_rng(0), 1, 6, 12)
    a = dense(edges, 6)[0].T
    for config in (CONFIG, GRAPHS):
        layer = layer_of(config)
        omega_1 = layer.weights.omega_1.kernel[...]
        want = a @ x[0] @ omega_1
        if config is CONFIG:
            want = want + x[0] @ layer.weights.omega_2.kernel[...]
        got = layer.equation(x, edges).injection[0]
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_features_of_the_identity_are_never_written_down():
    edges = random_edges(np.random.default_rng(0), 2, 4, 12)
    layer, nothing = layer_of(), jnp.zeros((2, 4, 0))
    written = jnp.broadcast_to(jnp.eye(4, 3), (2, 4, 3))  # a node beyond the third has none
    got, want = (layer.equation(x, edges).injection for x in (nothing, written))
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize("deq", [DEQ, NORMED], ids=["in place", "straight through"])
def test_gradients_are_those_by_the_projected_kernel(deq):
    """And with a norm they go on from there as if there were no projection."""
    layer, x = layer_of(deq=deq, large=20.0), features(1, 6)
    edges = random_edges(np.random.default_rng(0), 1, 6, 12)
    layer.eval()
    to = jnp.asarray(np.random.default_rng(1).normal(size=(1, 6, 5)), jnp.float32)

    def by_kernel(kernel, equation):
        z, _ = layer.solve(equation._replace(kernel=kernel))
        return jnp.sum(z * to)

    equation = layer.equation(x, edges)
    wanted = jax.jit(jax.grad(by_kernel))(equation.kernel, equation).reshape(5, 5)
    if deq is NORMED:
        made = nnx.grad(lambda layer: jnp.sum(layer.plain_weights().w.kernel[...] * wanted))(layer)
        wanted = made["weights"]["module"]["w"]["kernel"][...]
    made: Any = nnx.jit(nnx.grad(lambda layer: jnp.sum(layer(x, edges)[0] * to)))(layer)
    got = made["weights"]["module"] if deq is NORMED else made["weights"]
    np.testing.assert_allclose(got["w"]["kernel"][...], wanted, rtol=1e-4, atol=1e-4)


def test_without_a_norm_the_parameter_is_projected_in_training_alone():
    layer, x = layer_of(large=20.0), features(1, 6)
    edges = random_edges(np.random.default_rng(0), 1, 6, 12)
    held = lambda: layer.weights.w.kernel[...] + layer.moved[...]
    before = held()
    layer.eval()
    projected = layer.equation(x, edges).kernel
    assert np.array_equal(held(), before)
    layer.train()
    assert np.array_equal(layer.equation(x, edges).kernel, projected)
    np.testing.assert_allclose(held(), projected, atol=rounding(np.float32, 2, size=20.0))
    layer.weights.w.kernel[...] += 0.01  # a step of the optimiser goes on from there
    np.testing.assert_allclose(held(), projected + 0.01, atol=rounding(np.float32, 3, size=20.0))
    assert layer_of(deq=NORMED).moved is None
    assert layer_of(dataclasses.replace(CONFIG, kappa=None)).moved is None


def test_without_kappa_nothing_is_projected_and_with_0_everything():
    edges = random_edges(np.random.default_rng(0), 1, 6, 12)
    for kappa in (None, 0.0):
        layer = layer_of(dataclasses.replace(CONFIG, kappa=kappa), large=20.0)
        w = layer.equation(features(1, 6), edges).kernel
        assert np.array_equal(w, layer.weights.w.kernel[...] if kappa is None else np.zeros((5, 5)))


def test_packs_do_not_know_of_each_other():
    """Each has its own bound, and is one sample of the solver."""
    rng = np.random.default_rng(0)
    edges, x = random_edges(rng, 3, 6, 12), features(3, 6)
    layer = layer_of(deq=NORMED, large=20.0)
    layer.eval()
    run = nnx.jit(lambda layer, x, edges: layer(x, edges))
    z, info = run(layer, x, edges)
    for i in range(3):
        one = jax.tree.map(lambda a, i=i: a[i : i + 1], edges)
        alone, said = run(layer, x[i : i + 1], one)
        np.testing.assert_allclose(z[i], alone[0], atol=rounding(np.float32, 60, np.abs(z).max()))
        assert info.steps[i] == said.steps[0]


@pytest.mark.parametrize(
    ("pack", "nodes"),
    [([], 1), ([(0, 0, 1.0)], 1), ([], 3), ([(1, 1, 1.0), (1, 2, 1.0), (1, 2, 1.0)], 4)],
    ids=["one node", "its self loop", "no edges", "an isolated node, an edge twice"],
)
def test_small_graphs(pack, nodes):
    edges, x = edges_of(pack), features(1, nodes)
    layer = layer_of(deq=NORMED, large=20.0)

    @nnx.jit
    def run(layer):
        return nnx.value_and_grad(lambda layer: jnp.sum(layer(x, edges)[0] ** 2))(layer)

    value, grads = run(layer)
    assert np.isfinite(value) and value > 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    layer.eval()
    z, info = layer(x, edges)
    assert info.converged.all()
    if not pack:  # nothing arrives anywhere
        own = x @ layer.plain_weights().omega_2.kernel[...]
        np.testing.assert_allclose(z, np.maximum(own, 0), atol=1e-6)


def test_gradients_reach_the_weights_of_edges():
    edges, x = random_edges(np.random.default_rng(0), 1, 6, 12), features(1, 6)
    layer = layer_of(deq=NORMED)
    layer.eval()

    @jax.jit
    def value(t, along):
        moved = edges._replace(weights=edges.weights + t * along)
        return jnp.sum(layer(x, moved)[0] ** 2)

    along = jnp.asarray(np.random.default_rng(1).normal(size=edges.weights.shape), jnp.float32)
    h = 1e-2
    want = (value(h, along) - value(-h, along)) / (2 * h)
    np.testing.assert_allclose(jax.grad(value)(0.0, along), want, rtol=1e-2)


def test_initial_weights():
    """As in the original, or W the identity, which no norm changes and the bound scales alone."""
    layer = layer_of()
    for name in ("w", "omega_1", "omega_2"):
        kernel = getattr(layer.weights, name).kernel[...]
        assert 0.5 * 5**-0.5 < np.abs(kernel).max() <= 5**-0.5
    edges, x = random_edges(np.random.default_rng(0), 1, 6, 12, unit=True), features(1, 6)
    for deq in (DEQ, NORMED):
        layer = layer_of(dataclasses.replace(CONFIG, w_init="identity"), deq)
        w = layer.equation(x, edges).kernel.reshape(5, 5)
        np.testing.assert_allclose(w, 0.8 / (1 + RHO_EPS) * np.eye(5), rtol=1e-6)
