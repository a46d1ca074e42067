import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tolerances import rounding
from tests.zoo.ignn.made import dense, edges_of, random_edges

GRAPHS = {
    "no edges": [],
    "a self loop": [(1, 1, 2.0)],
    "an edge twice": [(0, 2, 1.0), (0, 2, 0.5)],
    "both directions": [(0, 1, 1.0), (1, 0, -3.0)],
    "isolated nodes": [(3, 4, 1.0)],
}


@pytest.mark.parametrize("pack", GRAPHS.values(), ids=GRAPHS)
def test_it_is_the_product_with_the_dense_matrix(pack):
    edges = edges_of(pack)
    h = np.random.default_rng(0).normal(size=(1, 5, 3)).astype(np.float32)
    want = dense(edges, 5)[0].T @ h[0]
    np.testing.assert_allclose(edges.propagate(jnp.asarray(h))[0], want, rtol=1e-6)


def test_one_node_and_one_feature():
    edges = edges_of([(0, 0, 0.25)])
    assert edges.propagate(jnp.full((1, 1, 1), 8.0)).tolist() == [[[2.0]]]


def test_packs_and_their_gradients():
    rng = np.random.default_rng(1)
    with jax.enable_x64(True):
        edges = random_edges(rng, 3, 6, 20, np.float64)
        h = jnp.asarray(rng.normal(size=(3, 6, 4)))
        to = jnp.asarray(rng.normal(size=(3, 6, 4)))
        a = dense(edges, 6)
        got, back = jax.vjp(lambda h, w: edges._replace(weights=w).propagate(h), h, edges.weights)
        of_h, of_weights = back(to)
        close = rounding(np.float64, 60, size=40.0)
        np.testing.assert_allclose(got, np.swapaxes(a, 1, 2) @ h, atol=close)
        np.testing.assert_allclose(of_h, a @ to, atol=close)
        by_hand = [
            [h[b, s] @ to[b, t] for s, t in zip(edges.sources[b], edges.targets[b], strict=True)]
            for b in range(3)
        ]
        np.testing.assert_allclose(of_weights, by_hand, atol=close)


def test_sums_of_bfloat16_run_in_float32():
    edges = edges_of([(i, 0, 1.0) for i in range(300)])
    h = jnp.ones((1, 300, 1), jnp.bfloat16)
    arrived = edges.propagate(h)
    assert arrived.dtype == jnp.bfloat16 and arrived[0, 0, 0] == 300  # 256 + 1 = 256, there
