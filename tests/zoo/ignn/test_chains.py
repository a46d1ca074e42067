"""Chains: the published data set, draw by draw."""

import numpy as np
import pytest
from scipy import sparse

from tests.golden import reference_folder
from zoo.errors import UserError
from zoo.ignn.chains import chains
from zoo.ignn.packs import Packs


def whole(split):
    """The one batch of a split."""
    ((batch, weights),) = split.eval_batches(64)
    np.testing.assert_array_equal(batch["mask"], weights)
    return {name: array[0] for name, array in batch.items()}


def test_the_reference():
    with np.load(reference_folder("ignn/parts") / "golden.npz") as arrays:
        want = {k.split("/")[1]: v for k, v in arrays.items() if k.startswith("chains_default/")}
    data = chains()
    batch = whole(data.train)
    n = len(want["labels"])
    square = lambda values, ends: sparse.coo_matrix((values, ends), (n, n)).toarray()
    np.testing.assert_array_equal(
        square(batch["weights"], (batch["sources"], batch["targets"])),
        square(want["adj_val_float32"], (want["adj_row"], want["adj_col"])),
    )
    x = np.zeros((n, 100), np.float32)
    x[want["x_nonzero_row"], want["x_nonzero_col"]] = want["x_nonzero_val"]
    np.testing.assert_array_equal(batch["x"], x)
    np.testing.assert_array_equal(batch["y"], want["labels"])
    for split, key in (("train", "train"), ("valid", "val"), ("test", "test")):
        mask = np.zeros(n)
        mask[want[f"idx_{key}"]] = 1
        np.testing.assert_array_equal(whole(getattr(data, split))["mask"], mask)
    assert batch["rho"] == 1
    assert data.sizes == {"n_features": 100, "n_classes": 2, "n_nodes": n}


def test_other_sizes():
    data = chains(length=4, classes=3, per_class=5, features=7, counts=(3, 4, 5), noise=0.5)
    assert isinstance(data.valid, Packs)
    batches = [whole(split) for split in (data.train, data.valid, data.test)]
    assert [batch["mask"].sum() for batch in batches] == [3, 4, 5]
    assert np.max(sum(batch["mask"] for batch in batches)) == 1
    np.testing.assert_array_equal(np.bincount(batches[0]["y"]), [20, 20, 20])
    np.testing.assert_allclose(batches[0]["x"].sum(1), 1, rtol=1e-3)
    assert data.sizes == {"n_features": 7, "n_classes": 3, "n_nodes": 60}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"length": 0}, "length 0, 2 classes of 20 chains and 100 features, expected at least 1"),
        ({"features": 1}, ".* and 1 features, expected at least 1 of each, and a feature for each"),
        ({"length": 5}, r"20 \+ 100 \+ 200 nodes .* no more than the 200 there are"),
        ({"counts": (0, 1, 1)}, r"0 \+ 1 \+ 1 nodes .*, expected at least 1 each"),
    ],
)
def test_impossible_ones(options, said):
    with pytest.raises(UserError, match=f"^chains: {said}"):
        chains(**options)
