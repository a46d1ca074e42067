"""Packs of graphs: what rows hold, and how many shapes there are."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.zoo.ignn.graphs import graph, random_graph, ring
from zoo.errors import UserError
from zoo.ignn.adjacency import matrix
from zoo.ignn.graph import Graph
from zoo.ignn.packs import Packs
from zoo.ignn.radius import spectral_radius


def some(count: int, *, of_graphs: bool = False, seed: int = 0) -> list[Graph]:
    """Random graphs of 0 to 12 nodes; node i of graph g has the feature 100 g + i."""
    rng = np.random.default_rng(seed)
    made = []
    for g in range(count):
        n = int(rng.integers(13))
        labels = rng.integers(-1 + of_graphs, 3, () if of_graphs else n)
        one = random_graph(rng, n, int(rng.integers(30)), labels=labels)
        x = np.stack([100 * g + np.arange(n), np.ones(n)], 1)
        made.append(Graph(n, one.sources, one.targets, one.weights, x, labels))
    return made


def split_row(batch, row: int) -> np.ndarray:
    """The numbers of the graphs that a row has nodes of."""
    x = batch["x"][row]
    return np.unique(x[x[:, 1] == 1, 0] // 100).astype(int)


def check_rows(batch, graphs: list[Graph], of_graphs: bool) -> list[int]:
    """That every row is the union of some graphs; returns their numbers."""
    seen = []
    for row in range(len(batch["x"])):
        numbers = batch["x"][row][:, 0] // 100
        there = batch["x"][row][:, 1] == 1
        a = np.zeros((len(there),) * 2)
        edges = [batch[name][row] for name in ("sources", "targets", "weights")]
        np.add.at(a, tuple(edges[:2]), edges[2])
        assert not a[~there].any() and not a[:, ~there].any()
        for g in split_row(batch, row):
            own = there & (numbers == g)
            np.testing.assert_allclose(a[own][:, own], matrix(graphs[g]).toarray(), rtol=1e-6)
            assert not a[own][:, ~own].any()
            if of_graphs:
                (place,) = np.unique(batch["graph"][row][own])
                assert batch["y"][row][place] == graphs[g].labels
            else:
                labels = graphs[g].labels
                np.testing.assert_array_equal(batch["y"][row][own], np.maximum(labels, 0))
                np.testing.assert_array_equal(batch["mask"][row][own], labels >= 0)
            seen.append(g)
        rho = max([spectral_radius(graphs[g]) for g in split_row(batch, row)], default=0)
        assert batch["rho"][row] == pytest.approx(rho, rel=1e-6)
        if of_graphs:
            assert np.all(batch["graph"][row][~there] == batch["mask"].shape[1])
    return seen


@pytest.mark.parametrize("per_pack", [1, 3])
@pytest.mark.parametrize("of_graphs", [False, True])
def test_an_epoch_has_every_graph_once(per_pack, of_graphs):
    graphs = some(24, of_graphs=of_graphs)
    packs = Packs(graphs, per_pack=per_pack)
    nodes = [g for g, each in enumerate(graphs) if each.n_nodes]
    size = 12 // per_pack
    batches = list(packs.train_batches(size, seed=0, start=0, stop=4))
    epochs = [
        sorted(g for batch in batches[i : i + 2] for g in check_rows(batch, graphs, of_graphs))
        for i in (0, 2)
    ]
    assert epochs[0] == epochs[1] == nodes
    assert split_row(batches[0], 0).tolist() != split_row(batches[2], 0).tolist()
    shapes = {(b["x"].shape[1], b["sources"].shape[1]) for b in batches}
    assert shapes <= set(packs.buckets)


def test_dtypes_and_shapes():
    batch = next(Packs(some(6), per_pack=2).train_batches(3, seed=1, start=0, stop=1))
    n, e = batch["x"].shape[1], batch["sources"].shape[1]
    expected = {
        "x": ((3, n, 2), "f4"),
        **{name: ((3, e), "i4") for name in ("sources", "targets")},
        "weights": ((3, e), "f4"),
        "rho": ((3,), "f4"),
        "y": ((3, n), "i4"),
        "mask": ((3, n), "f4"),
    }
    assert {k: (a.shape, a.dtype.str[1:]) for k, a in batch.items()} == expected
    graphs = some(6, of_graphs=True)
    batch = next(Packs(graphs, per_pack=2).train_batches(3, seed=1, start=0, stop=1))
    n = batch["x"].shape[1]
    for name, like in {
        "graph": ((3, n), "i4"),
        "y": ((3, 2), "i4"),
        "mask": ((3, 2), "f4"),
    }.items():
        assert (batch[name].shape, batch[name].dtype.str[1:]) == like
    several = [graph(2, labels=[[0, 1, 1], [1, 0, 0]], features=np.ones((2, 1)))] * 2
    batch = next(Packs(several).train_batches(2, seed=1, start=0, stop=1))
    assert (batch["y"].shape, batch["y"].dtype) == ((2, 2, 3), np.float32)


def same(a, b) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.parametrize("start", [1, 4, 7])
def test_a_batch_depends_on_seed_and_step_alone(start):
    packs = Packs(some(20), per_pack=2)
    every = list(packs.train_batches(4, seed=3, start=0, stop=9))
    rest = packs.train_batches(4, seed=3, start=start, stop=9)
    for batch, later in zip(every[start:], rest, strict=True):
        same(batch, later)
    other = next(packs.train_batches(4, seed=4, start=0, stop=1))
    assert any(split_row(other, r).tolist() != split_row(every[0], r).tolist() for r in range(4))


@pytest.mark.parametrize("rows", [slice(0, 2), slice(2, 4), slice(3, 4)])
def test_some_rows_are_those_of_the_whole_batch(rows):
    packs = Packs(some(20, of_graphs=True), per_pack=2)
    whole = packs.train_batches(4, seed=3, start=0, stop=6)
    parts = packs.train_batches(4, seed=3, start=0, stop=6, rows=rows)
    for batch, part in zip(whole, parts, strict=True):
        same({name: array[rows] for name, array in batch.items()}, part)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 99])
@pytest.mark.parametrize("of_graphs", [False, True])
def test_an_evaluation_counts_everything_once(batch_size, of_graphs):
    graphs = some(11, of_graphs=of_graphs)
    packs = Packs(graphs, per_pack=3)
    order, total, shapes = [], 0.0, set()
    for batch, weights in packs.eval_batches(batch_size):
        same({"mask": batch["mask"]}, {"mask": weights})
        assert len(weights) == min(batch_size, 4)
        shapes.add((batch["x"].shape[1], batch["sources"].shape[1]))
        total += weights.sum()
        kept = [r for r in range(len(weights)) if weights[r].any() or not order]
        order += [g for r in kept for g in split_row(batch, r) if g not in order]
        if of_graphs:
            counted = batch["y"][weights > 0]
            assert len(counted) == weights.sum()
    assert order == [g for g, each in enumerate(graphs) if each.n_nodes]
    known = (
        11 if of_graphs else sum(np.count_nonzero(np.asarray(each.labels) >= 0) for each in graphs)
    )
    assert total == known
    assert shapes <= set(packs.buckets)


def test_what_fills_up_a_batch_has_no_weight():
    graphs = [ring(n, labels=np.zeros(n, int), features=np.ones((n, 1))) for n in (3, 4, 5)]
    first, last = Packs(graphs).eval_batches(2)
    assert first[1].sum(1).tolist() == [3, 4] and last[1].sum(1).tolist() == [5, 0]
    assert last[0]["mask"].sum() == 5
    assert last[0]["x"][1].sum() == 3  # a copy of the first


def test_a_graph_of_an_unknown_class_does_not_count():
    graphs = [ring(3, labels=label, features=np.ones((3, 1))) for label in (2, -1)]
    ((batch, weights),) = Packs(graphs, per_pack=2).eval_batches(1)
    assert weights.tolist() == [[1, 0]] and batch["y"].tolist() == [[2, 0]]


def test_one_graph_has_no_padding():
    one = ring(5, labels=[0, 1, -1, 0, 1])
    packs = Packs([one], [np.array([1, 1, 1, 0, 0])])
    (batch,) = packs.train_batches(1, seed=0, start=7, stop=8)
    assert batch["x"].shape == (1, 5, 0) and batch["sources"].shape == (1, 5)
    np.testing.assert_array_equal(batch["mask"], [[1, 1, 0, 0, 0]])
    assert packs.buckets == [(5, 5)]
    (again, weights), *more = packs.eval_batches(9)
    assert not more and weights.sum() == 2
    same(batch, again)


def test_packs_of_a_batch_are_about_as_large():
    """Dealt to and fro from the largest on, they differ by no more than the largest graph has."""
    sizes = (np.random.default_rng(0).pareto(1.5, 400) * 10 + 3).astype(int)  # a few large ones
    graphs = [ring(n, features=np.full((n, 1), n)) for n in sizes.tolist()]
    for batch in Packs(graphs, per_pack=8).train_batches(5, seed=0, start=0, stop=20):
        edges = np.count_nonzero(batch["weights"], axis=1)
        assert np.ptp(edges) < batch["x"].max()


def test_each_bucket_is_compiled_once():
    traced = []

    @jax.jit
    def step(batch):
        traced.append(batch["x"].shape[1:2] + batch["sources"].shape[1:])
        return jax.ops.segment_sum(batch["weights"][0], batch["targets"][0], 1).sum()

    packs = Packs(some(40), per_pack=2)
    for batch in packs.train_batches(4, seed=0, start=0, stop=60):
        step(batch)
    assert 1 < len(traced) <= len(packs.buckets) and set(traced) <= set(packs.buckets)


def test_targets_ascend_in_a_row_if_they_do_in_every_graph():
    graphs = [ring(n, features=np.ones((n, 1))) for n in range(1, 9)]
    ascending = [Graph(g.n_nodes, np.arange(g.n_nodes), np.arange(g.n_nodes)) for g in graphs]
    ascending = [
        Graph(g.n_nodes, g.sources, g.targets, features=np.ones((g.n_nodes, 1))) for g in ascending
    ]
    for batch in Packs(ascending, per_pack=2).train_batches(2, seed=0, start=0, stop=4):
        assert np.all(np.diff(batch["targets"]) >= 0)
        assert np.any(batch["weights"] == 0)


@pytest.mark.parametrize("level", ["node", "graph"])
def test_without_labels(level):
    graphs = [ring(n, features=np.ones((n, 1))) for n in (2, 3)]
    (batch, weights), *_ = Packs(graphs, per_pack=2, level=level).eval_batches(1)
    assert "y" not in batch and weights.sum() == (2 if level == "graph" else 5)
    assert ("graph" in batch) == (level == "graph")


def test_empty_ones():
    empty = [
        graph(0, features=np.ones((0, 3)), labels=1),
        graph(1, features=np.ones((1, 3)), labels=0),
    ]
    (batch, weights), *_ = Packs(empty, per_pack=2).eval_batches(1)
    assert batch["graph"].tolist() == [[1]] and weights.tolist() == [[1, 1]]
    assert batch["weights"].tolist() == [[0]] and batch["rho"].tolist() == [0]


A = graph(2, features=np.ones((2, 1)), name="a")


def other(**fields) -> Graph:
    """A graph that may not go together with `A`."""
    return dataclasses.replace(A, name="b", **fields)


@pytest.mark.parametrize(
    ("graphs", "said"),
    [
        ([], "there are no graphs"),
        ([A, other(features=np.ones((2, 3)))], "b: its nodes have 3 features, expected 1 as in a"),
        ([A, other(features=None)], "b: has no features"),
        ([other(features=None)] * 2, "b: has no features"),
        ([A, other(labels=[0, 1])], "b: its labels are of another kind than those of a"),
        ([other(labels=0), other(labels=[0, 1])], "b: its labels are of another kind"),
    ],
)
def test_graphs_that_do_not_go_together(graphs, said):
    with pytest.raises(UserError, match=said):
        Packs(graphs)


def test_too_few_graphs():
    packs = Packs(some(5), per_pack=2)
    packs.check_batch_size(2)
    for call in (packs.check_batch_size, lambda n: packs.train_batches(n, seed=0, start=0, stop=1)):
        with pytest.raises(UserError, match="batch_size 3 of packs of 2 graphs is more than the 5"):
            call(3)
