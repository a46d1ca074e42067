"""Citation graphs in the files that were published with Planetoid (Yang et al., ICML 2016)."""

import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from zoo.errors import UserError
from zoo.ignn.pickled import read_pickle
from zoo.ignn.shapes import unlike
from zoo.ignn.tables import check_column, read_table

FIRST = "ind.{}.x"
VALID = 500  # nodes after those for training


class Citations(NamedTuple):
    """Features x (N, p), labels (N,), edges (E, 2), and the nodes of each split."""

    x: np.ndarray
    labels: np.ndarray
    edges: np.ndarray
    splits: Mapping[str, np.ndarray]


def read_pickles(folder: pathlib.Path, name: str) -> Citations:
    """What is in `ind.{name}.x`, `y`, `tx`, `ty`, `allx`, `ally`, `graph` and `test.index`.

    Nodes come as in `allx`, and after them those of the test, `tx`, at the numbers that
    `test.index` has. Numbers between them that it has not, as for Citeseer, are nodes without
    features or a label. The first ones, `x`, are for training, and `VALID` after them for
    validation.

    Raises:
        UserError: a file is missing or damaged, or they do not go together; names the file.
    """
    path = lambda part: folder / f"ind.{name}.{part}"
    allx, ally = _labelled(path("allx"), path("ally"))
    tx, ty = _labelled(path("tx"), path("ty"), like=(allx, ally))
    x, _ = _labelled(path("x"), path("y"), like=(allx, ally))
    index = read_table(path("test.index"), int, columns=1, rows=len(tx))
    check_column(path("test.index"), index, len(allx), len(allx) + 2 * len(tx))
    index = index[:, 0]
    n = int(index.max(initial=len(allx) - 1)) + 1
    features, labels = np.zeros((n, allx.shape[1]), np.float32), np.full(n, -1)
    features[: len(allx)], labels[: len(allx)] = allx, ally
    features[index], labels[index] = tx, ty
    splits = {
        "train": np.arange(len(x)),
        "valid": np.arange(len(x), min(len(x) + VALID, len(allx))),
        "test": index,
    }
    return Citations(features, labels, _edges(path("graph"), n), splits)


def _labelled(
    path: pathlib.Path, label_path: pathlib.Path, like: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, p) and the classes (n,) of which each row has one; -1 if it has none."""
    x, y = read_pickle(path), read_pickle(label_path)
    for of, found, shape in ((path, x, (None, None)), (label_path, y, (len(x), None))):
        wrong = "lists" if isinstance(found, dict) else unlike(found, shape)
        if wrong is not None:
            raise UserError(f"{of}: {wrong}")
    if like is not None and x.shape[1] != like[0].shape[1]:
        raise UserError(f"{path}: {x.shape[1]} features, expected {like[0].shape[1]}")
    return x, np.where(y.any(1), y.argmax(1), -1)


def _edges(path: pathlib.Path, n: int) -> np.ndarray:
    lists = read_pickle(path)
    if not isinstance(lists, dict):
        raise UserError(f"{path}: an array, expected the neighbours of each node")
    edges = [(node, other) for node, others in lists.items() for other in others]
    for node, other in edges:
        if not (0 <= node < n and 0 <= other < n):
            raise UserError(f"{path}: an edge from {node} to {other}, expected 0 to {n - 1}")
    return np.array(edges, np.int64).reshape(-1, 2)
