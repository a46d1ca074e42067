"""The files of protein-protein interactions that came with GraphSAGE."""

import pathlib

import numpy as np

from zoo.errors import UserError
from zoo.ignn.graph import Graph, parted
from zoo.ignn.node_link import NodeLink, read_node_link, read_value
from zoo.ignn.npy import read_npy

NAME = "ppi-{}"
SPLITS = ("train", "valid", "test")
SMALL = 3  # nodes; a component with fewer is no graph of its own


def read_graphsage(folder: pathlib.Path) -> dict[str, list[Graph]]:
    """The graphs of each split: the connected components of one large graph.

    As is usual for these files, features are standardised by the mean and deviation of the
    training nodes, and components of one or two nodes belong to the first graph of their split.

    Raises:
        UserError: a file is missing or damaged, or has not what it should; names file and row.
    """
    path = folder / NAME.format("G.json")
    read = read_node_link(path)
    split = _splits(path, read)
    n = len(read.nodes)
    x = read_npy(folder / NAME.format("feats.npy"), n, None)[_rows(folder, n)]
    known = x[split == 0]
    with np.errstate(all="ignore"):  # what is not finite is a message of the graph's
        deviation = known.std(0)
        x = (x - known.mean(0)) / np.where(deviation == 0, 1, deviation)
    number = _numbers(read, split)
    order = np.argsort(number, kind="stable")
    place = np.argsort(order)
    moved = NodeLink([read.nodes[i] for i in order], place[read.edges], read.directed)
    labels = _labels(folder, n)
    graphs = parted(moved.graph(str(path), x[order], labels[order]), number[order])
    of = split[order][np.unique(number[order], return_index=True)[1]]
    return {
        name: [read.plain(graph) for graph, own in zip(graphs, of, strict=True) if own == i]
        for i, name in enumerate(SPLITS)
    }


def _splits(path: pathlib.Path, read: NodeLink) -> np.ndarray:
    """(N,), the number of each node's split; no edge joins two of them."""
    split = np.array([2 if n.get("test") else 1 if n.get("val") else 0 for n in read.nodes], int)
    ends = split[read.edges]
    across = ends[:, 0] != ends[:, 1]
    if across.any():
        row = int(np.argmax(across))
        names = [SPLITS[end] for end in ends[row]]
        raise UserError(
            f"{path}: link {row} joins nodes for {names[0]} and for {names[1]}, "
            "expected none between splits"
        )
    if not (split == 0).any():
        raise UserError(f"{path}: has no training nodes, expected some that are not val or test")
    return split


def _numbers(read: NodeLink, split: np.ndarray) -> np.ndarray:
    """(N,), the number of each node's graph: those for training first, in the order of nodes."""
    from scipy import sparse  # slow to import

    n = len(read.nodes)
    a = sparse.coo_matrix((np.ones(len(read.edges)), tuple(read.edges.T)), (n, n))
    _, component = sparse.csgraph.connected_components(a, directed=False)
    large = np.bincount(component)[component] >= SMALL
    number, used = np.zeros(n, np.int64), 0
    for own in (split == i for i in range(len(SPLITS))):
        number[own] = used  # the small ones; large ones get their own now
        of_large, place = np.unique(component[own & large], return_inverse=True)
        number[own & large] = used + place
        used += max(len(of_large), int(own.any()))
    return number


def _rows(folder: pathlib.Path, n: int) -> np.ndarray:
    """(N,), the row of each node's features."""
    path = folder / NAME.format("id_map.json")
    rows = _of_nodes(path, n)
    for node, row in enumerate(rows):
        if type(row) is not int or not 0 <= row < n:
            raise UserError(f"{path}: node {node} has the row {row!r}, expected 0 to {n - 1}")
    return np.array(rows, np.int64)


def _labels(folder: pathlib.Path, n: int) -> np.ndarray:
    """(N, L), of each node."""
    path = folder / NAME.format("class_map.json")
    labels = _of_nodes(path, n)
    length = len(labels[0]) if labels and isinstance(labels[0], list) else 0
    for node, of in enumerate(labels):
        if not isinstance(of, list) or len(of) != length or not all(v in (0, 1) for v in of):
            raise UserError(f"{path}: the labels of node {node} are no list of {length} 0s and 1s")
    return np.array(labels, np.float32).reshape(n, length)


def _of_nodes(path: pathlib.Path, n: int) -> list:
    """What a file has for each node by its number."""
    found = read_value(path, dict)
    for node in range(n):
        if str(node) not in found:
            raise UserError(f"{path}: has nothing for node {node}, expected 0 to {n - 1}")
    return [found[str(node)] for node in range(n)]
