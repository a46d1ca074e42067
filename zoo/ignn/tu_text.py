"""The text files of the TU collection of graph data sets."""

import pathlib
from typing import NamedTuple

import numpy as np

from zoo.errors import UserError
from zoo.ignn.graph import Graph
from zoo.ignn.tables import check_column, read_table


class Read(NamedTuple):
    """A set of graphs as its files have it.

    `whole` is all of them as one graph, `graph` (N,) the number of each node's graph, `classes`
    (G,) their classes from 0. `tags` (N,) are labels of nodes, `attributes` (N, p) numbers.
    """

    whole: Graph
    graph: np.ndarray
    classes: np.ndarray
    tags: np.ndarray | None
    attributes: np.ndarray | None


def text_folder(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    """Where the text files of a set are, or None."""
    places = (folder, folder / name, folder / name / "raw")
    return next((place for place in places if (place / f"{name}_A.txt").is_file()), None)


def read_text(folder: pathlib.Path, name: str) -> Read:
    """What is in `{name}_A.txt`, `_graph_indicator`, `_graph_labels`, and in `_node_labels` and
    `_node_attributes` if they are there.

    Nodes and graphs are counted from 1. An edge may be there in both directions or in one of them,
    but all edges alike: otherwise the file may have been cut off.

    Raises:
        UserError: a file is missing, or has not what it should; names the file and the line.
    """
    path = lambda part: folder / f"{name}_{part}.txt"
    graph = _column(path("graph_indicator"))
    n = len(graph)
    labels = _column(path("graph_labels"))
    _check_ascending(path("graph_indicator"), graph, len(labels))
    edges = read_table(path("A"), int, columns=2, delimiter=",")
    check_column(path("A"), edges, 1, n)
    _check_directions(path("A"), edges)
    tags = attributes = None
    if path("node_labels").exists():
        tags = read_table(path("node_labels"), int, rows=n, delimiter=",")
        tags = np.unique(tags, axis=0, return_inverse=True)[1].reshape(-1)
    if path("node_attributes").exists():
        attributes = read_table(path("node_attributes"), float, rows=n, delimiter=",")
    return Read(
        Graph(n, edges[:, 0] - 1, edges[:, 1] - 1, name=str(path("A"))),
        graph - 1,
        np.unique(labels, return_inverse=True)[1],
        tags,
        attributes,
    )


def _column(path: pathlib.Path) -> np.ndarray:
    return read_table(path, int, columns=1, delimiter=",")[:, 0]


def _check_ascending(path: pathlib.Path, graph: np.ndarray, n_graphs: int) -> None:
    before = np.concatenate([[0], graph[:-1]])
    wrong = (graph != before) & (graph != before + 1) | (graph < 1)
    if wrong.any():
        row = int(np.argmax(wrong))
        expected = f"{before[row]} or {before[row] + 1}" if row else "1"
        raise UserError(f"{path}, line {row + 1}: {graph[row]}, expected {expected}")
    last = int(graph.max(initial=0))
    if last != n_graphs:
        raise UserError(f"{path}: ends with graph {last}, expected {n_graphs} as there are labels")


def _check_directions(path: pathlib.Path, edges: np.ndarray) -> None:
    """That all edges come in both directions, or none of them, loops aside."""
    key = lambda ends: ends[:, 0] * (edges.max(initial=0) + 1) + ends[:, 1]
    loop = edges[:, 0] == edges[:, 1]
    both = np.isin(key(edges[:, ::-1]), key(edges)) & ~loop
    if both.any() and not (both | loop).all():
        row = int(np.argmin(both | loop))
        source, target = edges[row]
        raise UserError(
            f"{path}, line {row + 1}: {source}, {target}, expected {target}, {source} as well, "
            "as other edges come in both directions"
        )
