"""Adjacency matrices, and their spectral radius."""

import dataclasses

import numpy as np
import pytest
from scipy.optimize import brentq

from tests.golden import reference_folder
from tests.zoo.ignn.graphs import chain, graph, random_graph, ring
from zoo.errors import UserError
from zoo.ignn.adjacency import (
    augmented,
    matrix,
    normalized,
    row_normalized,
    undirected,
    unweighted,
)
from zoo.ignn.graph import Graph
from zoo.ignn.radius import spectral_radius

REFERENCES = ("undirected", "directed", "isolated_node", "weighted_asymmetric")


@pytest.fixture(scope="module")
def parts():
    """The reference of the original's parts."""
    with np.load(reference_folder("ignn/parts") / "golden.npz") as arrays:
        return dict(arrays)


def measured(of: Graph) -> float:
    """The radius, whatever is known of it."""
    return spectral_radius(dataclasses.replace(of, radius=None))


@pytest.mark.parametrize("name", REFERENCES)
def test_the_reference(parts, name):
    a = parts[f"adjacency/{name}/in"]
    ends = np.nonzero(a)
    raw = Graph(len(a), ends[0], ends[1], a[ends])
    close = lambda made, key: np.testing.assert_allclose(
        made, parts[f"adjacency/{name}/{key}"], rtol=1e-10, atol=1e-12
    )
    close(matrix(augmented(raw)).toarray(), "augnorm")
    close(matrix(normalized(raw)).toarray(), "augnorm_need_orig")
    for made, key in ((raw, "rho_in"), (augmented(raw), "rho_augnorm")):
        for rho in (spectral_radius(made), measured(made)):
            assert rho + 1e-5 == pytest.approx(parts[f"adjacency/{name}/{key}"], abs=1e-7)


def test_features_of_the_reference(parts):
    made = row_normalized(parts["row_normalize/in"])
    np.testing.assert_allclose(made, parts["row_normalize/out"], rtol=1e-10, atol=1e-12)


def test_the_chains_of_the_reference():
    with np.load(reference_folder("ignn/chains") / "golden.npz") as arrays:
        raw, want, x = (arrays[f"input/{name}"] for name in ("adj_raw", "adj", "x"))
        close = lambda made, of: np.testing.assert_allclose(made, of, rtol=1e-7, atol=0)  # float32
        close(row_normalized(arrays["input/x_raw"]), x)
    sources, targets = np.nonzero(raw)
    close(matrix(augmented(Graph(len(raw), sources, targets))).toarray(), want)


def edges(of: Graph) -> list[tuple[int, int, float]]:
    return list(zip(of.sources.tolist(), of.targets.tolist(), of.weights.tolist(), strict=True))


def test_double_edges_loops_and_directions():
    raw = graph(3, (2, 0), (0, 1), (0, 1), (1, 0), (2, 2), weights=[1, 2, 3, 4, 7])
    assert edges(undirected(raw)) == [(1, 0, 5), (2, 0, 1), (0, 1, 5), (0, 2, 1), (2, 2, 7)]
    assert edges(unweighted(raw)) == [(1, 0, 1), (2, 0, 1), (0, 1, 1), (2, 2, 1)]
    assert edges(unweighted(raw, self_loops=False)) == [(1, 0, 1), (2, 0, 1), (0, 1, 1)]
    gone = graph(2, (0, 1), (0, 1), weights=[1, -1])
    assert edges(undirected(gone)) == edges(unweighted(gone)) == []


def test_a_loop_adds_to_that_of_the_identity():
    (loop,) = edges(augmented(graph(1, (0, 0), weights=[3])))
    assert loop == (0, 0, pytest.approx(1))
    both = edges(augmented(graph(2, (0, 0), (0, 1))))  # row sums 3 and 1
    assert both == [(0, 0, pytest.approx(2 / 3)), (0, 1, pytest.approx(3**-0.5)), (1, 1, 1)]


def test_sums_of_0_and_below():
    zero = graph(2, (0, 1), weights=[-1])  # with the loop, row 0 sums to 0
    assert edges(augmented(zero)) == [(1, 1, 1)]
    assert augmented(zero).radius is None
    with pytest.raises(
        UserError, match="graph: the weights of the edges from node 0 sum to -1, ex"
    ):
        augmented(graph(2, (0, 1), weights=[-2]))
    with pytest.raises(UserError, match="node 0 sum to -2"):
        normalized(graph(2, (0, 1), weights=[-2]))


@pytest.mark.parametrize("of", [augmented, normalized, undirected, unweighted])
@pytest.mark.parametrize("n", [0, 1])
def test_the_smallest(of, n):
    made = of(graph(n, labels=np.zeros(n, int)))
    assert made.n_nodes == n and made.labels is not None
    assert spectral_radius(made) == measured(made) == (n if of is augmented else 0)


def closed_forms():
    """Graphs with the radius that they have."""
    n = 3000  # beyond those that are solved for at once
    two_rings = lambda n, k: brentq(lambda x: x**-n + x ** -(n - k + 1) - 1, 1, 2, xtol=1e-15)
    with_chord = lambda n, k: graph(n, *[(i, (i + 1) % n) for i in range(n)], (0, k))
    path = lambda n: 2 * np.cos(np.pi / (n + 1))
    weak = np.ones(60)
    weak[7] = 1e-60
    return {
        "chain": (chain(300), 0),
        "chain with loops": (augmented(chain(300)), 1),
        "half loops": (graph(2, (0, 0), (0, 1), (1, 1), weights=[0.5, 9, 0.25]), 0.5),
        "ring": (ring(301), 1),
        "weak ring": (ring(60, weights=weak), 0.1),
        "ring of two": (ring(2, weights=[2, 8]), 4),
        "negative": (ring(2, weights=[-2, 8]), 4),
        "cancelled": (graph(2, (0, 1), (0, 1), (1, 0), weights=[1, -1, 5]), 0),
        "path": (undirected(chain(100)), path(100)),
        "long path": (undirected(chain(n)), path(n)),
        "ring with chord": (with_chord(100, 40), two_rings(100, 40)),
        "long ring with chord": (with_chord(n, n // 2), two_rings(n, n // 2)),
        "star": (undirected(graph(10, *[(0, i) for i in range(1, 10)])), 3),
        "two parts": (graph(5, (0, 1), (1, 0), (2, 3), (3, 2), weights=[1, 1, 2, 2]), 2),
        "behind a chain": (graph(4, (0, 1), (1, 2), (2, 3), (3, 2), weights=[9, 9, 1, 4]), 2),
    }


@pytest.mark.parametrize(("of", "radius"), closed_forms().values(), ids=closed_forms())
def test_a_radius_that_is_known(of, radius):
    assert measured(of) == pytest.approx(radius, rel=1e-11, abs=0)


@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("n", [1, 2, 3, 10, 150])
def test_against_all_eigenvalues(n, directed):
    rng = np.random.default_rng(n)
    for edges in (n, 2 * n, 9 * n):
        made = random_graph(rng, n, edges)
        made = made if directed else undirected(made)
        want = np.abs(np.linalg.eigvals(matrix(made).toarray())).max()
        assert measured(made) == pytest.approx(want, rel=1e-9, abs=1e-4)  # a chain's are not 0


@pytest.mark.parametrize("n", [2500, 20_000])
def test_large_directed_graphs(n):
    """By the bounds of Collatz and Wielandt, of what the radius belongs to."""
    rng = np.random.default_rng(0)
    made = random_graph(rng, n, 8 * n)
    a, rho = matrix(made), measured(made)
    x = np.ones(n)
    for _ in range(300):
        x = a @ x + x
        x /= x.max()
    ratios = ((a @ x) / x)[x > 1e-6]
    assert ratios.min() - 1e-9 <= rho <= ratios.max() + 1e-9
    assert np.ptp(ratios) < 1e-6
