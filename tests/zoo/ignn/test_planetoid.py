"""Citation graphs: the shared ones, and small ones that are wrong."""

import pathlib

import numpy as np
import pytest

from tests.golden import data_folder
from zoo.data.split import Data
from zoo.errors import UserError
from zoo.ignn.planetoid import planetoid

SMALL = {
    "edges": np.array([[0, 1], [1, 2], [1, 0], [3, 3]]),
    "feat_shape": np.array([4, 3]),
    "feat_indptr": np.array([0, 2, 3, 3, 4]),
    "feat_indices": np.array([0, 2, 1, 0]),
    "feat_data": np.array([1.0, 3.0, 2.0, 5.0], np.float32),
    "labels": np.array([0, 1, 1, -1], np.int8),
    "train_idx": np.array([0]),
    "val_idx": np.array([2]),
    "test_idx": np.array([1]),
}


def only(split) -> dict[str, np.ndarray]:
    ((batch, _),) = split.eval_batches(1)
    return {name: array[0] for name, array in batch.items()}


def masks(data: Data) -> list[np.ndarray]:
    assert data.valid is not None
    return [only(split)["mask"] for split in (data.train, data.valid, data.test)]


@pytest.mark.parametrize(
    ("name", "nodes", "edges", "features", "classes", "train"),
    [("cora", 2708, 5278, 1433, 7, 140), ("citeseer", 3327, 4552, 3703, 6, 120)],
)
def test_the_shared_graphs(name, nodes, edges, features, classes, train):
    folder = data_folder("planetoid")
    data = planetoid(folder, name)
    assert data.sizes == {"n_features": features, "n_classes": classes, "n_nodes": nodes}
    batch = only(data.train)
    assert len(batch["weights"]) == 2 * edges + nodes  # both directions, and the loops
    assert batch["x"].shape == (nodes, features) and batch["rho"] == 1
    sums = batch["x"].sum(1)
    np.testing.assert_allclose(sums[sums > 0], 1, rtol=1e-5)
    assert (sums == 0).sum() == (15 if name == "citeseer" else 0)
    assert [mask.sum() for mask in masks(data)] == [train, 500, 1000]
    assert np.max(sum(masks(data))) == 1
    raw = only(planetoid(folder, name, row_normalize=False).train)["x"]
    assert raw.sum() == {"cora": 49_216, "citeseer": 105_165}[name]


def test_a_small_one(tmp_path):
    np.savez(tmp_path / "a.npz", **SMALL)
    data = planetoid(tmp_path, "a", row_normalize=False)
    batch = only(data.train)
    np.testing.assert_array_equal(batch["x"], [[1, 0, 3], [0, 2, 0], [0, 0, 0], [5, 0, 0]])
    a = np.zeros((4, 4))
    a[batch["sources"], batch["targets"]] = batch["weights"]
    d = np.array([2, 3, 2, 1])
    full = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]])
    np.testing.assert_allclose(a, full / np.sqrt(np.outer(d, d)), rtol=1e-6)
    np.testing.assert_array_equal(masks(data), [[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0]])
    assert data.sizes == {"n_features": 3, "n_classes": 2, "n_nodes": 4}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"edges": None}, "no array named 'edges'"),
        ({"edges": [[0, 1], [2, 4]]}, "'edges', row 1: 4, expected 0 to 3"),
        ({"edges": [0, 1]}, "'edges' is int64 of shape (2,), expected (any, 2) integers"),
        ({"feat_shape": [3, 3]}, "'edges', row 3: 3, expected 0 to 2"),
        ({"feat_shape": [5, 3]}, "'feat_indptr' is int64 of shape (5,), expected (6,) integers"),
        ({"feat_indptr": [0, 2, 1, 3, 4]}, "'feat_indptr', row 2: 1, expected at least 2 as in"),
        ({"feat_indptr": [0, 2, 3, 3, 5]}, "'feat_indptr' does not go from 0 to 4"),
        ({"feat_indices": [0, 3, 1, 0]}, "'feat_indices', row 1: 3, expected 0 to 2"),
        ({"feat_data": [1.0, 2, 3]}, "'feat_data' is float64 of shape (3,), expected (4,) numbers"),
        ({"feat_data": [1.0, 2, np.nan, 3]}, "feature 1 of node 1 is nan, expected a finite numb"),
        ({"feat_shape": [4, 10**12]}, "a matrix of 4 times 1000000000000 is more than the memory"),
        ({"labels": [0, 1, 1]}, "'labels' is int64 of shape (3,), expected (4,) integers"),
        ({"labels": [0, 1, -2, -1]}, "node 2 has the label -2, expected 0 or more"),
        ({"train_idx": [0, 4]}, "train split, row 1: node 4, expected 0 to 3"),
        ({"train_idx": [0, 0]}, "train split, row 1: node 0 is in the train split already"),
        ({"test_idx": [1, 0]}, "test split, row 1: node 0 is in the train split already, expected"),
        ({"val_idx": [2, 3]}, "valid split, row 1: node 3 has the label -1, expected 0 to 1"),
        ({"val_idx": np.zeros(0, int)}, "valid split is empty, expected at least one node"),
        ({"val_idx": [2**64 - 1]}, "'val_idx' has 18446744073709551615, expected less than 2^63"),
    ],
)
def test_what_is_wrong_with_a_file(changes, said, tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **{k: v for k, v in (SMALL | changes).items() if v is not None})
    with pytest.raises(UserError) as e:
        planetoid(tmp_path, "a", row_normalize=False)
    assert str(e.value).startswith(f"{path}: ") and said in str(e.value)


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        (None, r"give --data DIR with cora\.npz"),
        (pathlib.Path("nowhere"), "nowhere: no such folder"),
    ],
)
def test_without_a_folder(folder, said, tmp_path):
    with pytest.raises(UserError, match=said):
        planetoid(folder, "cora")
    with pytest.raises(UserError, match=r"cora\.npz: no such file"):
        planetoid(tmp_path, "cora")
