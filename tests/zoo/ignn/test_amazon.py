"""Amazon's files, small ones, and ones that are wrong."""

import pathlib

import numpy as np
import pytest

from zoo.errors import UserError
from zoo.ignn.amazon import amazon

TEXTS = {
    "meta": "4 3\n",
    "adj_list": "0 1 2\n1 0\n2\n3 3\n",
    "label": "1 0 0\n0 1 1\n1 1 1\n0 0 0\n",
    "train_idx-0.06": "0\n3\n",
    "train_idx-0.5": "0\n1\n",
    "test_idx": "2\n",
}


def write(folder: pathlib.Path, **texts: str | None) -> None:
    for name, text in (TEXTS | texts).items():
        path = folder / f"{name}.txt"
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)


def only(split) -> dict[str, np.ndarray]:
    ((batch, _),) = split.eval_batches(1)
    return {name: array[0] for name, array in batch.items()}


@pytest.mark.parametrize("lists", [TEXTS["adj_list"], "2 1 2\n1 0\n0\n1 3\n"])
def test_a_graph(lists, tmp_path):
    """Lines begin with the node, or with how many neighbours it has."""
    write(tmp_path, adj_list=lists)
    data = amazon(tmp_path)
    batch = only(data.train)
    assert batch["x"].shape == (4, 0) and batch["rho"] == 1 and data.valid is None
    a = np.zeros((4, 4))
    a[batch["sources"], batch["targets"]] = batch["weights"]
    full = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 2]])  # with its loop
    d = full.sum(1)
    np.testing.assert_allclose(a, full / np.sqrt(np.outer(d, d)), rtol=1e-6)
    assert batch["y"].tolist() == [[1, 0, 0], [0, 1, 1], [1, 1, 1], [0, 0, 0]]
    assert batch["mask"].tolist() == [1, 0, 0, 1]
    assert only(data.test)["mask"].tolist() == [0, 0, 1, 0]
    assert data.sizes == {"n_features": 4, "n_classes": 3, "n_nodes": 4, "labels": "top"}
    assert only(amazon(tmp_path, portion=0.5).train)["mask"].tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"meta": None}, "meta.txt: cannot be read (No such file"),
        ({"meta": ""}, "meta.txt, line 1: expected the numbers of nodes and of labels"),
        ({"meta": "4"}, "meta.txt, line 1: '4', expected 2 integers"),
        ({"meta": "0 3"}, "meta.txt, line 1: expected the numbers of nodes and of labels"),
        ({"meta": "5 3"}, "adj_list.txt: 4 lines, expected 5, one for each node"),
        ({"adj_list": "0 1\n1 0\n2 4\n3\n"}, "adj_list.txt, line 3: 4, expected 0 to 3"),
        (
            {"adj_list": "0 1\n1 0\n9 1\n3\n"},
            "adj_list.txt, line 3: begins with 9, expected 2, or",
        ),
        ({"adj_list": "0 1\n1 0\n2 x\n3\n"}, "adj_list.txt, line 3: expected integers, the first"),
        ({"adj_list": "0 1\n\n2\n3\n"}, "adj_list.txt, line 2: expected integers, the first one"),
        ({"label": "1 0 0\n0 1 1\n1 1"}, "label.txt, line 3: '1 1', expected 3 numbers"),
        ({"label": "1 0 0\n0 1 1\n"}, "label.txt: 2 lines, expected 4"),
        (
            {"label": "1 0 0\n0 1 1\n0 2 0\n0 0 0"},
            "label.txt: node 2 has the label 2.0, exp",
        ),
        (
            {"label": "1 0 0\n0 1 1\n0 nan 0\n0 0 0"},
            "label.txt: node 2 has the label nan, expec",
        ),
        ({"train_idx-0.06": "0\n4\n"}, "train_idx-0.06.txt, line 2: 4, expected 0 to 3"),
        ({"train_idx-0.06": None}, "train_idx-0.06.txt: cannot be read (No such file"),
        ({"train_idx-0.06": ""}, "train split is empty"),
        ({"test_idx": "2\n0\n"}, "test split, row 1: node 0 is in the train split already"),
        ({"test_idx": "\xff"}, "test_idx.txt, line 1: 'ÿ', expected 1 integers"),
    ],
)
def test_what_is_wrong(changes, said, tmp_path):
    write(tmp_path, **changes)
    with pytest.raises(UserError) as e:
        amazon(tmp_path)
    assert str(e.value).startswith(str(tmp_path)) and said in str(e.value)


def test_what_is_no_text(tmp_path):
    write(tmp_path)
    (tmp_path / "test_idx.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"test_idx\.txt: is not UTF-8 text"):
        amazon(tmp_path)
    with pytest.raises(UserError, match=r"give --data DIR with adj_list\.txt"):
        amazon(None)


def test_a_large_one_makes_no_square_arrays(tmp_path):
    n = 30_000
    text = lambda rows: "\n".join(rows) + "\n"
    write(
        tmp_path,
        meta=f"{n} 2",
        adj_list=text(f"{i} {(7 * i + 1) % n} {(i + 1) % n}" for i in range(n)),
        label=text("0 1" for _ in range(n)),
    )
    data = amazon(tmp_path)
    assert sum(a.nbytes for a in only(data.train).values()) < 10_000_000
