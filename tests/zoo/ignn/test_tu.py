"""Graph classification sets: the shared ones, the text files, and files that are wrong."""

import pathlib

import numpy as np
import pytest

from tests.golden import data_folder
from zoo.data.split import Split
from zoo.errors import UserError
from zoo.ignn.tu import tu

# two triangles, a path, and a single node; those with a loop or an edge fewer are of class 5
TEXTS = {
    "A": "1, 2\n2, 1\n2, 3\n3, 2\n1, 3\n3, 1\n4, 5\n5, 4\n6, 7\n7, 6\n7, 8\n8, 7\n8, 8\n",
    "graph_indicator": "1\n1\n1\n2\n2\n3\n3\n3\n4\n",
    "graph_labels": "-1\n5\n-1\n5\n",
    "node_labels": "0\n2\n0\n0\n2\n2\n2\n2\n7\n",
    "node_attributes": "".join(f"{i}.5, {-i}\n" for i in range(9)),
}


def write(folder: pathlib.Path, **texts: str | None) -> None:
    """The set TOY, with some files changed or, if None, left out."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, text in (TEXTS | texts).items():
        path = folder / f"TOY_{part}.txt"
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)


def graphs(data) -> dict[tuple, tuple[str, np.ndarray, np.ndarray, int]]:
    """Split, features, A and class of every graph, by its features."""
    found = {}
    for name in ("train", "test"):
        for batch, weights in getattr(data, name).eval_batches(1):
            for g in np.flatnonzero(weights[0]):
                own = batch["graph"][0] == g
                a = np.zeros((len(own),) * 2)
                edges = (batch["sources"][0], batch["targets"][0])
                np.add.at(a, edges, batch["weights"][0])
                x = batch["x"][0][own]
                key = tuple(map(tuple, x.tolist()))
                found[key] = (name, x, a[own][:, own], int(batch["y"][0, g]))
    return found


@pytest.mark.parametrize("place", ["", "TOY", "TOY/raw"])
def test_the_text_files(place, tmp_path):
    write(tmp_path / place)
    data = tu(tmp_path, "TOY", folds=2, per_pack=2)
    assert data.sizes == {"n_features": 3, "n_classes": 2} and data.valid is None
    found = graphs(data)
    triangle = found[((1, 0, 0), (0, 1, 0), (1, 0, 0))]
    np.testing.assert_allclose(triangle[2], np.full((3, 3), 1 / 3), rtol=1e-6)
    alone = found[((0, 0, 1),)]
    assert alone[2].tolist() == [[1]] and (alone[3], triangle[3]) == (1, 0)
    path = found[((0, 1, 0),) * 3][2]  # without the loop of the file
    d = np.sqrt([2, 3, 2])
    np.testing.assert_allclose(path * np.outer(d, d), [[1, 1, 0], [1, 1, 1], [0, 1, 1]], rtol=1e-5)
    assert sorted(split for split, *_ in found.values()) == ["test", "test", "train", "train"]


def test_edges_may_be_there_once(tmp_path):
    write(tmp_path)
    both = graphs(tu(tmp_path, "TOY", folds=2))
    write(tmp_path, A="1, 2\n3,2\n1,3\n 4 , 5\n7, 6\n7, 8\n8, 8")
    once = graphs(tu(tmp_path, "TOY", folds=2))
    for key, (_, _, a, _) in both.items():
        np.testing.assert_array_equal(once[key][2], a)


def test_features(tmp_path):
    write(tmp_path, node_labels=None)
    data = tu(tmp_path, "TOY", folds=2)
    assert ((2,), (2,), (2,)) in graphs(data) and ((0,),) in graphs(data)  # neighbours, no loops
    data = tu(tmp_path, "TOY", folds=2, attributes=True)
    assert ((0, 8.5, -8),) in graphs(data) and data.sizes["n_features"] == 3
    write(tmp_path)
    assert tu(tmp_path, "TOY", folds=2, attributes=True).sizes["n_features"] == 5


SETS = {  # graphs, nodes, edges, tags, counts
    "MUTAG": (188, 3371, 3721, 7, (63, 125)),
    "PTC": (344, 8792, 8931, 19, (192, 152)),
    "COX2": (467, 19252, 20289, 8, (365, 102)),
    "PROTEINS": (1113, 43471, 81044, 3, (663, 450)),
    "NCI1": (4110, 122747, 132753, 37, (2053, 2057)),
}


def totals(split: Split) -> np.ndarray:
    """Graphs, nodes, edges without those of the identity, graphs of each class."""
    total = np.zeros(5, int)
    for batch, weights in split.eval_batches(8):
        kept = weights.any(1)  # rows that fill up are copies
        nodes = np.count_nonzero(batch["graph"][kept] < weights.shape[1])
        edges = np.count_nonzero(batch["weights"][kept])
        classes = np.bincount(batch["y"][weights > 0], minlength=2)
        total += [int(weights.sum()), nodes, (edges - nodes) // 2, *classes]
    return total


@pytest.mark.parametrize("name", SETS)
def test_the_shared_sets(name):
    n, nodes, edges, tags, counts = SETS[name]
    data = tu(data_folder("graph-classification"), name)
    assert data.sizes == {"n_features": tags, "n_classes": 2}
    train, test = totals(data.train), totals(data.test)
    np.testing.assert_array_equal(train + test, [n, nodes, edges, *counts])
    np.testing.assert_allclose(test[3:], np.array(counts) / 10, atol=1)


def test_every_graph_is_in_one_fold():
    seen = [
        totals(tu(data_folder("graph-classification"), "MUTAG", fold=fold).test)[0]
        for fold in range(10)
    ]
    assert sum(seen) == 188 and set(seen) <= {18, 19, 20}
    with pytest.raises(UserError, match="fold 10 of 10, expected 0 to 9"):
        tu(data_folder("graph-classification"), "MUTAG", fold=10)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"A": "1, 2\n2, 10\n"}, "TOY_A.txt, line 2: 10, expected 1 to 9"),
        ({"A": "1, 2\n0, 2\n"}, "TOY_A.txt, line 2: 0, expected 1 to 9"),
        ({"A": "1, 2\n2, 1\n2, 3\n3, 2\n1"}, "TOY_A.txt, line 5: '1', expected 2 integers"),
        ({"A": "1, 2\n2, \n"}, "TOY_A.txt, line 2: '2,', expected 2 integers"),
        ({"A": "1, 2\n\n2, 1\n"}, "TOY_A.txt, line 2: '', expected 2 integers"),
        ({"A": "1, 2\n2, 1.5\n"}, "TOY_A.txt, line 2: '2, 1.5', expected 2 integers"),
        ({"A": "1, 2\n2, 99999999999999999999\n"}, "TOY_A.txt, line 2: '2, 9999999999"),
        ({"A": TEXTS["A"][:25]}, "TOY_A.txt, line 5: 1, 3, expected 3, 1 as well, as other edges"),
        ({"A": "1, 4\n"}, "TOY_A.txt: edge 0 joins graphs 0 and 1"),
        ({"graph_indicator": None}, "TOY_graph_indicator.txt: cannot be read (No such file"),
        ({"graph_indicator": "1\n1\n3\n3\n3\n3\n3\n3\n4\n"}, "line 3: 3, expected 1 or 2"),
        ({"graph_indicator": "2\n2\n"}, "TOY_graph_indicator.txt, line 1: 2, expected 1"),
        ({"graph_indicator": "1\n1\n1\n2\n2\n3\n3\n3\n"}, "ends with graph 3, expected 4"),
        ({"graph_labels": "1\n2\n1\n"}, "ends with graph 4, expected 3 as there are labels"),
        ({"graph_labels": "1\n2\n1\nx\n"}, "TOY_graph_labels.txt, line 4: 'x', expected 1 integ"),
        ({"node_labels": "0\n1\n"}, "TOY_node_labels.txt: 2 lines, expected 9"),
        ({"node_attributes": "0, 1\n" * 8 + "0"}, "attributes.txt, line 9: '0', expected 2 number"),
        ({"node_attributes": "0\n" * 8 + "nan"}, "feature 3 of node 8 is nan, expected a finite"),
        ({"graph_labels": "1\n1\n1\n2\n"}, "class 1 has 1 graphs, expected at least 2, one for"),
    ],
)
def test_texts_that_are_wrong(changes, said, tmp_path):
    write(tmp_path, **changes)
    with pytest.raises(UserError) as e:
        tu(tmp_path, "TOY", folds=2, attributes=True)
    assert str(tmp_path) in str(e.value) and said in str(e.value)


ARRAYS = {
    "graph_ptr": [0, 2, 3, 5, 6],
    "edges": [[0, 1], [3, 4]],
    "graph_labels": [0, 1, 0, 1],
    "node_tags": [0, 1, 1, 0, 0, 1],
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"graph_ptr": [0, 2, 3, 5]}, "'graph_labels' is int64 of shape (4,), expected (3,)"),
        ({"graph_ptr": [0, 3, 2, 5, 6]}, "'graph_ptr', row 2: 2, expected at least 3"),
        ({"graph_ptr": np.zeros(0, int)}, "'graph_ptr' does not go from 0 to 0"),
        ({"edges": [[0, 1], [3, 6]]}, "'edges', row 1: 6, expected 0 to 5"),
        ({"edges": [[0, 1], [1, 2]]}, "edge 1 joins graphs 0 and 1, expected nodes of one graph"),
        ({"graph_labels": [0, 1]}, "'graph_labels' is int64 of shape (2,), expected (4,) integ"),
        ({"node_tags": [0.5] * 6}, "'node_tags' is float64 of shape (6,), expected (6,) integers"),
        ({"node_attributes": [[0.0]] * 5}, "'node_attributes' is float64 of shape (5, 1), expec"),
    ],
)
def test_archives_that_are_wrong(changes, said, tmp_path):
    path = tmp_path / "TOY.npz"
    np.savez(path, **ARRAYS)
    assert totals(tu(tmp_path, "TOY", folds=2).test)[0] == 2
    np.savez(path, **{**ARRAYS, **changes})
    with pytest.raises(UserError) as e:
        tu(tmp_path, "TOY", folds=2)
    assert str(path) in str(e.value) and said in str(e.value)


def test_what_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"give --data DIR with TOY_A\.txt, \.\.\. or TOY\.npz"):
        tu(None, "TOY")
    with pytest.raises(UserError, match=r"TOY\.npz: no such file"):
        tu(tmp_path, "TOY")
