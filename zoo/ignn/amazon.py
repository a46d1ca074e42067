"""Amazon's graph of products that are bought together, as the original IGNN released it."""

import pathlib

import numpy as np

from zoo.data.split import Data
from zoo.errors import UserError
from zoo.ignn.adjacency import augmented, undirected, unweighted
from zoo.ignn.archive import data_folder
from zoo.ignn.graph import Graph
from zoo.ignn.tables import check_column, read_lines, read_table
from zoo.ignn.transductive import transductive


def amazon(folder: pathlib.Path | None, *, portion: float | str = 0.06) -> Data:
    """One graph whose nodes have several labels each; its adjacency matrix is `augmented`.

    Features are those of the identity, which are not written down: `x` is (1, N, 0).

    Args:
        folder: has `meta.txt`, the numbers of nodes and of labels; `adj_list.txt`, in line i + 1
            the neighbours of node i, after its own number or how many they are; `label.txt`, in
            line i + 1 a 0 or 1 for each label; `train_idx-{portion}.txt` and `test_idx.txt`, the
            numbers of nodes.
        portion: of the nodes that are for training.

    Raises:
        UserError: a file is missing, or has not what it should; names the file and the line.
    """
    folder = data_folder(folder, "adj_list.txt, label.txt, meta.txt, ...")
    path = folder / "meta.txt"
    meta = read_table(path, int, columns=2)
    if not len(meta) or meta.min() < 1 or meta.max() >= 2**31:
        raise UserError(f"{path}, line 1: expected the numbers of nodes and of labels")
    n, n_labels = map(int, meta[0])
    sources, targets = _edges(folder / "adj_list.txt", n)
    labels = read_table(folder / "label.txt", float, columns=n_labels, rows=n)
    graph = Graph(n, sources, targets, labels=labels, name=str(folder / "label.txt"))
    splits = {}
    for split, name in (("train", f"train_idx-{portion}.txt"), ("test", "test_idx.txt")):
        nodes = read_table(folder / name, int, columns=1)
        check_column(folder / name, nodes, 0, n - 1)
        splits[split] = nodes[:, 0]
    graph = augmented(unweighted(undirected(graph)))
    data = transductive(graph, splits, n_classes=n_labels)
    return Data(data.train, data.test, sizes={**data.sizes, "labels": "top"})


def _edges(path: pathlib.Path, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Sources and targets; a line begins with a number that adds nothing, and may be either."""
    lines = read_lines(path)
    if len(lines) != n:
        raise UserError(f"{path}: {len(lines)} lines, expected {n}, one for each node")
    counts, targets = np.zeros(n, np.int64), []
    for node, line in enumerate(lines):
        try:
            first, *neighbours = map(int, line.split())
        except ValueError as e:
            raise UserError(
                f"{path}, line {node + 1}: expected integers, the first one of which is {node} or "
                "the number of the others"
            ) from e
        if first not in (node, len(neighbours)):
            raise UserError(
                f"{path}, line {node + 1}: begins with {first}, expected {node}, or "
                f"{len(neighbours)} as there are neighbours"
            )
        for neighbour in neighbours:
            if not 0 <= neighbour < n:
                raise UserError(f"{path}, line {node + 1}: {neighbour}, expected 0 to {n - 1}")
        counts[node] = len(neighbours)
        targets.extend(neighbours)
    return np.repeat(np.arange(n), counts), np.array(targets, np.int64)
