"""Protein interactions, in both formats: small files of each, and ones that are wrong."""

import json
import pathlib
from collections.abc import Callable

import numpy as np
import pytest

from zoo.data.split import Data
from zoo.errors import UserError
from zoo.ignn.ppi import ppi

NODES = {"train": (3, 2), "valid": (2,), "test": (2, 2)}  # of each graph


def write_by_split(folder: pathlib.Path) -> None:
    """Rings, undirected, with some links twice and some loops; features count all nodes."""
    folder.mkdir(exist_ok=True, parents=True)
    count, number = 0, 1
    for split, sizes in NODES.items():
        links, ids, first = [], [], 0
        for n in sizes:
            links += [{"source": first + i, "target": first + (i + 1) % n} for i in range(n)]
            links += [{"source": first, "target": first}, {"source": first + 1, "target": first}]
            ids += [number] * n
            first, number = first + n, number + 1
        nodes = [{"id": i} for i in range(first)]
        content = {"directed": False, "graph": {}, "nodes": nodes, "links": links}
        (folder / f"{split}_graph.json").write_text(json.dumps(content))
        x = np.stack([count + np.arange(first), np.ones(first)], 1)
        np.save(folder / f"{split}_feats.npy", x)
        np.save(folder / f"{split}_labels.npy", np.arange(3 * first).reshape(-1, 3) % 2)
        np.save(folder / f"{split}_graph_id.npy", ids)
        count += first


def write_graphsage(folder: pathlib.Path) -> None:
    """A path of four for training, one of three and a pair for validation, a ring for the test.

    The rows of features are in reverse order.
    """
    folder.mkdir(exist_ok=True, parents=True)
    of = ["test"] * 3 + ["val"] * 5 + ["train"] * 4
    nodes = [{"id": i, "val": s == "val", "test": s == "test"} for i, s in enumerate(of)]
    ends = [(0, 1), (1, 2), (2, 0), (3, 4), (5, 6), (6, 7), (8, 9), (9, 10), (10, 11), (9, 9)]
    links = [{"source": a, "target": b, "test_removed": False} for a, b in ends]
    content = {"directed": False, "multigraph": False, "nodes": nodes, "links": links}
    write = lambda name, value: (folder / f"ppi-{name}.json").write_text(json.dumps(value))
    write("G", content)
    write("id_map", {str(i): 11 - i for i in range(12)})
    write("class_map", {str(i): [i % 2, 1 - i % 2] for i in range(12)})
    x = np.stack([100.0 + np.arange(12), np.full(12, 3.0)], 1)
    np.save(folder / "ppi-feats.npy", x[::-1])


def splits(data: Data) -> dict[str, list[dict[str, np.ndarray]]]:
    """The graphs of each split, without padding."""
    made = {}
    for name in ("train", "valid", "test"):
        made[name] = []
        for batch, weights in getattr(data, name).eval_batches(1):
            n = int(weights.sum())
            a = np.zeros((batch["x"].shape[1],) * 2)
            np.add.at(a, (batch["sources"][0], batch["targets"][0]), batch["weights"][0])
            assert not batch["x"][0, n:].any() and not a[n:].any()
            of = {"x": batch["x"][0, :n], "y": batch["y"][0, :n], "a": a[:n, :n]}
            made[name].append({**of, "rho": batch["rho"][0]})
    return made


@pytest.mark.parametrize("place", ["", "raw", "ppi"])
def test_by_split(place, tmp_path):
    write_by_split(tmp_path / place)
    data = ppi(tmp_path)
    assert data.sizes == {"n_features": 2, "n_classes": 3, "labels": "any"}
    made = splits(data)
    assert {name: tuple(len(g["x"]) for g in of) for name, of in made.items()} == NODES
    triangle, pair = made["train"]
    np.testing.assert_array_equal(triangle["a"], 1 - np.eye(3))
    np.testing.assert_array_equal(pair["a"], 1 - np.eye(2))
    assert (triangle["rho"], pair["rho"]) == (pytest.approx(2), pytest.approx(1))
    assert pair["x"][:, 0].tolist() == [3, 4] and made["test"][1]["x"][:, 0].tolist() == [9, 10]
    assert pair["y"].tolist() == [[1, 0, 1], [0, 1, 0]]


def test_directed_links_stay_so(tmp_path):
    write_by_split(tmp_path)
    path = tmp_path / "train_graph.json"
    path.write_text(path.read_text().replace('"directed": false', '"directed": true'))
    triangle, _ = splits(ppi(tmp_path))["train"]
    np.testing.assert_array_equal(triangle["a"], [[0, 1, 0], [1, 0, 1], [1, 0, 0]])


@pytest.mark.parametrize("links", ["links", "edges"])
def test_graphsage(links, tmp_path):
    write_graphsage(tmp_path)
    path = tmp_path / "ppi-G.json"
    path.write_text(path.read_text().replace('"links"', f'"{links}"'))
    data = ppi(tmp_path)
    assert data.sizes == {"n_features": 2, "n_classes": 2, "labels": "any"}
    made = splits(data)
    shapes = {name: [len(g["x"]) for g in of] for name, of in made.items()}
    assert shapes == {"train": [4], "valid": [5], "test": [3]}  # the pair is no graph of its own
    (train,), (valid,), (test,) = made.values()
    standard = (np.array([8, 9, 10, 11]) - 9.5) / np.std([8, 9, 10, 11])
    np.testing.assert_allclose(train["x"], np.stack([standard, np.zeros(4)], 1), rtol=1e-5)
    np.testing.assert_allclose(test["x"][0, 0], -9.5 / np.std([8, 9, 10, 11]), rtol=1e-5)
    np.testing.assert_array_equal(test["a"], 1 - np.eye(3))
    np.testing.assert_array_equal(train["a"], np.eye(4, k=1) + np.eye(4, k=-1))  # no loop
    assert valid["a"].sum() == 6 and valid["y"][0].tolist() == [1, 0]


def change(path: str, **values) -> Callable[[pathlib.Path], object]:
    """Other entries of a JSON file."""

    def made(folder: pathlib.Path) -> None:
        content = json.loads((folder / path).read_text())
        (folder / path).write_text(json.dumps({**content, **values}))

    return made


def cut(path: str, to: int = 90) -> Callable[[pathlib.Path], object]:
    """The beginning of a file."""
    return lambda folder: (folder / path).write_bytes((folder / path).read_bytes()[:to])


def save(path: str, array) -> Callable[[pathlib.Path], object]:
    return lambda folder: np.save(folder / path, array)


def remove(path: str) -> Callable[[pathlib.Path], object]:
    return lambda folder: (folder / path).unlink()


NAN = np.array([[1.0, 0], [np.nan, 0]])
LINK = {"source": 0, "target": 1}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (remove("valid_graph.json"), "valid_graph.json: cannot be read (No such file"),
        (remove("test_feats.npy"), "test_feats.npy: cannot be read (No such file"),
        (cut("train_graph.json"), "train_graph.json: not readable JSON"),
        (cut("train_feats.npy"), "train_feats.npy: not a readable .npy"),
        (
            cut("train_feats.npy", -8),
            "train_feats.npy: float64[5, 2] by its header, expected numbers, as many as its 72",
        ),
        (change("train_graph.json", nodes=3), "train_graph.json: expected a list of nodes"),
        (change("train_graph.json", links=[3]), "train_graph.json: expected a list of links"),
        (change("train_graph.json", links=None), "train_graph.json: expected a list of links"),
        (change("valid_graph.json", nodes=[{"id": 1}]), "node 0 has the id 1, expected 0"),
        (
            change("valid_graph.json", links=[LINK, {"source": 0, "target": 2}]),
            "valid_graph.json: link 1 is from 0 to 2, expected 0 to 1",
        ),
        (
            change("valid_graph.json", links=[{"source": True, "target": 1}]),
            "valid_graph.json: link 0 is from True to 1, expected 0 to 1",
        ),
        (
            change("test_graph.json", links=[LINK, {"source": 1, "target": 2}]),
            "test_graph.json: edge 1 joins graphs 4 and 5, expected nodes of one graph",
        ),
        (save("valid_feats.npy", np.ones((3, 2))), "of shape (3, 2), expected (2, any) numbers"),
        (save("valid_feats.npy", np.ones((2, 3))), "its nodes have 3 features, expected 2 as in"),
        (save("valid_feats.npy", NAN), "valid_graph.json: feature 0 of node 1 is nan"),
        (save("valid_labels.npy", np.ones((2, 4))), "its labels are of another kind than those of"),
        (save("valid_labels.npy", NAN[:, :1] * 2), "node 0 has the label 2.0, expected 0 or 1"),
        (
            save("valid_graph_id.npy", np.ones(3, int)),
            "graph_id.npy: int64 of shape (3,), exp",
        ),
        (save("valid_graph_id.npy", [1, 3]), "node 1 is of graph 3, expected numbers that ascend"),
        (
            save("valid_graph_id.npy", [1.0, 1]),
            "graph is float64 of shape (2,), expected",
        ),
        (
            lambda f: np.save(f / "valid_labels.npy", np.array([{}, {}]), allow_pickle=True),
            "valid_labels.npy: object[2] by its header, expected numbers",
        ),
    ],
)
def test_what_is_wrong_by_split(changed, said, tmp_path):
    write_by_split(tmp_path)
    changed(tmp_path)
    with pytest.raises(UserError) as e:
        ppi(tmp_path)
    assert str(e.value).startswith(str(tmp_path)) and said in str(e.value)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (remove("ppi-id_map.json"), "ppi-id_map.json: cannot be read (No such file"),
        (cut("ppi-class_map.json"), "ppi-class_map.json: not readable JSON"),
        (
            lambda f: (f / "ppi-id_map.json").write_text("[]"),
            "ppi-id_map.json: list, expected dict at the top",
        ),
        (change("ppi-id_map.json", **{"4": 12}), "node 4 has the row 12, expected 0 to 11"),
        (change("ppi-id_map.json", **{"4": "1"}), "node 4 has the row '1', expected 0 to 11"),
        (lambda f: (f / "ppi-id_map.json").write_text("{}"), "has nothing for node 0, expected"),
        (change("ppi-class_map.json", **{"2": [0]}), "labels of node 2 are no list of 2 0s and 1s"),
        (change("ppi-class_map.json", **{"2": [0, 2]}), "labels of node 2 are no list of 2 0s and"),
        (change("ppi-class_map.json", **{"2": 1}), "labels of node 2 are no list of 2 0s and 1s"),
        (
            change("ppi-G.json", links=[LINK, {"source": 2, "target": 3}]),
            "ppi-G.json: link 1 joins nodes for test and for valid, expected none between splits",
        ),
        (
            change("ppi-G.json", nodes=[{"id": i, "val": True} for i in range(12)]),
            "ppi-G.json: has no training nodes",
        ),
        (
            save("ppi-feats.npy", np.ones((11, 2))),
            "of shape (11, 2), expected (12, any) nu",
        ),
        (
            save("ppi-feats.npy", np.full((12, 2), np.inf)),
            "feature 0 of node 0 is nan",
        ),
    ],
)
def test_what_is_wrong_with_graphsages(changed, said, tmp_path):
    write_graphsage(tmp_path)
    changed(tmp_path)
    with pytest.raises(UserError) as e:
        ppi(tmp_path)
    assert str(e.value).startswith(str(tmp_path)) and said in str(e.value)


def test_what_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"give --data DIR with train_graph\.json, .* ppi-G\.json"):
        ppi(None)
    with pytest.raises(UserError, match=r"has neither train_graph\.json nor ppi-G\.json"):
        ppi(tmp_path)
