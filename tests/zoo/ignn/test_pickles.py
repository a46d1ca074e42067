"""The published files of citation graphs, which are pickles, and what else pickles may be."""

import os
import pathlib
import pickle
import struct

import numpy as np
import pytest

from tests.zoo.ignn.test_planetoid import SMALL, masks, only
from zoo.errors import UserError
from zoo.ignn.pickled import read_pickle
from zoo.ignn.planetoid import planetoid


def integer(n: int) -> bytes:
    return b"J" + struct.pack("<i", n)


def text(content: bytes) -> bytes:
    return b"T" + struct.pack("<i", len(content)) + content


def array(a, shape=None) -> bytes:
    """As Python 2 pickled an array."""
    a = np.asarray(a)
    dims = b"".join(map(integer, a.shape if shape is None else shape))
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + integer(0) + b"\x85U\x01b\x87R"
        b"("
        + integer(1)
        + b"("
        + dims
        + b"tcnumpy\ndtype\n"
        + text(a.dtype.str[1:].encode())
        + b"K\x00K\x01\x87R(K\x03U\x01<NNN"
        + integer(-1)
        + integer(-1)
        + b"K\x00tb\x89"
        + text(a.tobytes())
        + b"tb"
    )


def csr(x, **changed: bytes) -> bytes:
    """As Python 2 pickled a SciPy matrix."""
    x = np.asarray(x, np.float32)
    rows, columns = np.nonzero(x)
    starts = np.searchsorted(rows, np.arange(len(x) + 1)).astype(np.int32)
    parts = {
        "_shape": b"(" + b"".join(map(integer, x.shape)) + b"t",
        "data": array(x[rows, columns]),
        "indices": array(columns.astype(np.int32)),
        "indptr": array(starts),
        "maxprint": integer(50),
    } | changed
    items = b"".join(b"U" + bytes([len(k)]) + k.encode() + v for k, v in parts.items())
    return b"cscipy.sparse.csr\ncsr_matrix\n)\x81}(" + items + b"ub"


def lists(of: dict[int, list[int]]) -> bytes:
    """As Python 2 pickled a `defaultdict(list)`."""
    items = b"".join(
        integer(node) + b"](" + b"".join(map(integer, others)) + b"e" for node, others in of.items()
    )
    return b"ccollections\ndefaultdict\nc__builtin__\nlist\n\x85R(" + items + b"u"


X = np.array([[1, 0, 3], [0, 2, 0], [0, 0, 4]])
ONE_HOT = np.eye(2, dtype=np.int32)
PARTS = {
    "x": csr(X[:1]),
    "y": array(ONE_HOT[[0]]),
    "allx": csr(X[:2]),
    "ally": array(ONE_HOT[[0, 1]]),
    "tx": csr(X[1:]),
    "ty": array(ONE_HOT[[1, 0]]),
    "graph": lists({0: [1, 1], 1: [0, 2], 4: [], 2: [2]}),
}


def write(folder: pathlib.Path, index: str = "4\n2\n", **parts: bytes) -> None:
    for part, content in (PARTS | parts).items():
        (folder / f"ind.a.{part}").write_bytes(b"\x80\x02" + content + b".")
    (folder / "ind.a.test.index").write_text(index)


def test_the_published_files(tmp_path):
    """Node 3 is in no file: it has neither features nor a label, as some of Citeseer's."""
    write(tmp_path)
    data = planetoid(tmp_path, "a", row_normalize=False)
    batch = only(data.train)
    np.testing.assert_array_equal(
        batch["x"], [[1, 0, 3], [0, 2, 0], [0, 0, 4], [0, 0, 0], [0, 2, 0]]
    )
    np.testing.assert_array_equal(batch["y"], [0, 1, 0, 0, 1])
    np.testing.assert_array_equal(masks(data), [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 1]])
    assert len(batch["weights"]) == 5 + 4
    assert data.sizes == {"n_features": 3, "n_classes": 2, "n_nodes": 5}
    np.savez(tmp_path / "a.npz", **SMALL)  # which goes first
    assert planetoid(tmp_path, "a").sizes["n_nodes"] == 4


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"index": "4\n"}, "ind.a.test.index: 1 lines, expected 2"),
        ({"index": "4\n1\n"}, "ind.a.test.index, line 2: 1, expected 2 to 6"),
        ({"index": "4\n4\n"}, "test split, row 1: node 4 is in the test split already"),
        ({"y": array(ONE_HOT)}, "ind.a.y: int32 of shape (2, 2), expected (1, any) numbers"),
        ({"tx": csr(X[1:, :2])}, "ind.a.tx: 2 features, expected 3"),
        ({"tx": lists({})}, "ind.a.tx: lists"),
        ({"graph": array(ONE_HOT)}, "ind.a.graph: an array, expected the neighbours of each"),
        ({"graph": lists({0: [1], 5: [0]})}, "ind.a.graph: an edge from 5 to 0, expected 0 to 4"),
        ({"x": csr(X[:1], indices=array(np.array([0, 3])))}, "of 3 columns has another one)"),
        ({"x": csr(X[:1], indptr=array(np.array([0, 3])))}, "the rows of a matrix do not fit"),
        ({"x": csr(X[:1], indptr=array(np.array([0, 2, 2])))}, "a matrix of 1 rows has 2"),
        ({"x": csr(X[:1], data=array(np.ones(3)))}, "a matrix has 2 columns of 3 entries"),
        ({"x": csr(X[:1], data=integer(3))}, "ind.a.x: not a readable pickle"),
        ({"tx": csr(X[1:], data=array(np.array([1, np.nan])))}, "feature 2 of node 2 is nan"),
        ({"y": array(ONE_HOT[0], shape=(9, 9))}, "an array is int32[9, 9], and has 8 bytes"),
        ({"y": array(np.array(["ab"]))}, "ind.a.y: not a readable pickle of plain arrays"),
    ],
)
def test_what_is_wrong(parts, said, tmp_path):
    write(tmp_path, **parts)
    with pytest.raises(UserError) as e:
        planetoid(tmp_path, "a", row_normalize=False)
    assert str(e.value).startswith(str(tmp_path)) and said in str(e.value)


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: pathlib.Path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_no_pickle_is_run(protocol, tmp_path):
    path = tmp_path / "ind.a.x"
    path.write_bytes(pickle.dumps(Hostile(tmp_path / "made"), protocol))
    with pytest.raises(UserError, match=r"ind\.a\.x: not a readable pickle .*it has "):
        read_pickle(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"hello",
        pickle.dumps(3, 2),
        pickle.dumps({1: 2}, 2),
        b"\x80\x02" + array(ONE_HOT),
        b"\x80\x02" + array(ONE_HOT)[:-30] + b".",
        b"\x80\x02" + lists({0: []})[:-1] + b".",
        b"\x80\x02(" + integer(1) + b"u.",
        b"\x80\x02h\x09.",
        b"\x80\x02r\xff\xff\xff\xff.",
        b"\x80\x02]q\x00h\x00a.",
        b"\x80\x02ccollections\ndefaultdict\n)R(K\x01]q\x01(h\x01eu.",
    ],
)
def test_other_contents(content, tmp_path):
    path = tmp_path / "ind.a.x"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"ind\.a\.x: not a readable pickle of plain arrays \(\S"):
        read_pickle(path)
    with pytest.raises(UserError, match="no.x: cannot be read"):
        read_pickle(tmp_path / "no.x")
