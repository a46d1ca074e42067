"""Graphs that are none, and the files of them."""

import numpy as np
import pytest

from tests.zoo.ignn.graphs import graph
from zoo.errors import UserError
from zoo.ignn.graph import read_graphs

X = np.arange(6.0).reshape(3, 2)
NAN = np.where(X == 3, np.nan, X)


@pytest.mark.parametrize(
    ("edges", "fields", "said"),
    [
        ([(0, 1), (3, 1)], {}, "edge 1 has the source 3, expected 0 to 2"),
        ([(0, 1), (0, -1)], {}, "edge 1 has the target -1, expected 0 to 2"),
        ([(0, 1)], {"weights": [1, 2]}, r"weights are int64 of shape (2,), expected (1,) numbers"),
        ([(0, 1)], {"weights": [np.inf]}, "weight of edge 0 is inf, expected a finite number"),
        ([(0, 1)], {"weights": [1e39]}, "weight of edge 0 is 1e+39, expected a finite number"),
        ([(0, 1)], {"weights": ["a"]}, "weights are <U1 of shape (1,), expected (1,) numbers"),
        ([], {"features": X[:2]}, "features are float64 of shape (2, 2), expected (3, any) numb"),
        (
            [],
            {"features": X[:, 0]},
            "features are float64 of shape (3,), expected (3, any) numbers",
        ),
        ([], {"features": X[:, :0]}, "its nodes have 0 features, expected at least 1"),
        ([], {"features": NAN}, "feature 1 of node 1 is nan, expected a finite number"),
        (
            [],
            {"features": X + 1j},
            "features are complex128 of shape (3, 2), expected",
        ),
        ([], {"labels": [0, 1]}, "labels are int64 of shape (2,), expected (3,) integers"),
        ([], {"labels": [0.0, 1, 2]}, "labels are float64 of shape (3,), expected (3,) integers"),
        ([], {"labels": [0, -2, 1]}, "node 1 has the label -2, expected 0 or more (-1: unknown)"),
        ([], {"labels": -2}, "the graph has the label -2, expected 0 or more"),
        ([], {"labels": X}, "node 1 has the label 2.0, expected 0 or 1"),
        ([], {"labels": NAN / 3}, "node 0 has the label 0.3333333333333333, expected 0 or 1"),
        ([], {"labels": np.zeros((3, 1, 1))}, "of shape (3, 1, 1), expected (3, any) numbers"),
    ],
)
def test_what_is_no_graph(edges, fields, said):
    with pytest.raises(UserError) as e:
        graph(3, *edges, name="a.npz", **fields)
    assert str(e.value).startswith("a.npz: ") and said in str(e.value)
    assert "\n" not in str(e.value)


def test_dtypes_whatever_comes():
    made = graph(3, (0, 2), weights=[2], features=X.astype(int), labels=[1, -1, 0])
    assert [a.dtype for a in (made.sources, made.targets)] == [np.int32] * 2
    assert made.weights.dtype == np.float64
    dtype = lambda array: np.asarray(array).dtype
    assert (dtype(made.features), dtype(made.labels)) == (np.float32, np.int32)
    assert dtype(graph(3, labels=X > 1).labels) == np.float32
    assert (made.n_edges, made.n_features, graph(3).n_features) == (1, 2, 3)


@pytest.mark.parametrize("n", [0, 1])
def test_the_smallest(n):
    made = graph(n, features=np.ones((n, 4)))
    assert (made.n_nodes, made.n_edges, made.n_features) == (n, 0, 4)
    with pytest.raises(UserError, match="edge 0 has the source 1, expected" if n else "no nodes"):
        graph(n, (1, 0))


ONE = {"x": X, "sources": np.array([0, 1]), "targets": np.array([1, 0])}
TWO = {**ONE, "graph": np.array([0, 0, 1]), "weights": np.array([0.5, 2.0])}


def test_a_file(tmp_path):
    np.savez(tmp_path / "one.npz", **ONE)
    (made,) = read_graphs(tmp_path / "one.npz")
    np.testing.assert_array_equal(made.features, X)
    np.testing.assert_array_equal(made.weights, [1, 1])
    np.savez(tmp_path / "bare.npz", n_nodes=5, sources=[], targets=[])
    (made,) = read_graphs(tmp_path / "bare.npz")
    assert (made.n_nodes, made.features) == (5, None)


def test_a_file_of_several_graphs(tmp_path):
    np.savez(
        tmp_path / "g.npz",
        x=np.arange(5.0)[:, None],
        sources=[2, 0, 3, 1],
        targets=[3, 1, 2, 1],
        weights=np.arange(4.0),
        graph=[0, 0, 1, 1, 2],
    )
    made = read_graphs(tmp_path / "g.npz")
    assert [g.n_nodes for g in made] == [2, 2, 1]
    assert [list(zip(g.sources, g.targets, g.weights, strict=True)) for g in made] == [
        [(0, 1, 1), (1, 1, 3)],
        [(0, 1, 0), (1, 0, 2)],
        [],
    ]
    assert [np.asarray(g.features).ravel().tolist() for g in made] == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"y": X}, "has an array 'y', expected only x, sources,"),
        ({"targets": None}, "no array named 'targets'"),
        ({"x": None}, "expected one array of 'x' and 'n_nodes'"),
        ({"n_nodes": 3}, "expected one array of 'x' and 'n_nodes'"),
        ({"x": None, "n_nodes": -1}, "n_nodes is -1, expected one number"),
        ({"x": None, "n_nodes": [3]}, r"n_nodes is \[3\], expected one number"),
        ({"x": None, "n_nodes": 2}, "graph is int64 of shape (3,), expected (2,) integers"),
        ({"x": np.float32(3)}, "edge 0 has the source 0, expected none"),
        ({"x": NAN}, "feature 1 of node 1 is nan"),
        ({"targets": [1]}, "2 sources and 1 targets, expected as many of each"),
        ({"targets": [1, 3]}, "edge 1 has the target 3, expected 0 to 2"),
        ({"targets": [1, 2]}, "edge 1 joins graphs 0 and 1, expected nodes of one graph"),
        ({"graph": [0, 1, 0]}, "node 2 is of graph 0, expected numbers that ascend from 0"),
        ({"graph": [0, 0, 2]}, "node 2 is of graph 2, expected numbers that ascend from 0"),
        ({"graph": [1, 1, 2]}, "node 0 is of graph 1, expected numbers that ascend from 0"),
        ({"graph": [-1, 0, 1]}, "node 0 is of graph -1, expected numbers that ascend from 0"),
        ({"graph": [0.0, 0, 1]}, "graph is float64 of shape"),
        ({"x": np.array([{}])}, "'x.npy' holds pickled objects"),
    ],
)
def test_files_of_no_graph(arrays, said, tmp_path):
    path = tmp_path / "g.npz"
    np.savez(path, **{k: v for k, v in (TWO | arrays).items() if v is not None})
    with pytest.raises(UserError) as e:
        read_graphs(path)
    assert str(path) in str(e.value) and said.replace("\\", "") in str(e.value)


def test_a_file_that_is_cut_off(tmp_path):
    path = tmp_path / "g.npz"
    np.savez(path, **TWO)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"g\.npz: not a readable \.npz"):
        read_graphs(path)
    with pytest.raises(UserError, match=r"no\.npz: no such file"):
        read_graphs(tmp_path / "no.npz")
