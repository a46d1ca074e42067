"""Graph classification sets of the TU collection: MUTAG, PTC, COX2, PROTEINS, NCI1, ..."""

import dataclasses
import pathlib

import numpy as np

from zoo.data.split import Data
from zoo.ignn.adjacency import augmented, matrix, undirected, unweighted
from zoo.ignn.archive import Archive, data_folder
from zoo.ignn.folds import stratified
from zoo.ignn.graph import Graph, check_apart, parted
from zoo.ignn.tu_text import Read, read_text, text_folder

FOLDS, SEED = 10, 42  # of the papers


def tu(
    folder: pathlib.Path | None,
    name: str,
    *,
    fold: int = 0,
    folds: int = FOLDS,
    seed: int = SEED,
    per_pack: int = 16,
    attributes: bool = False,
) -> Data:
    """Undirected graphs with a class each; their adjacency matrices are `augmented`.

    A node's features are its label as one of all labels, or else how many neighbours it has.
    Labels and attributes of edges are not read.

    Args:
        folder: has the files `{name}_A.txt`, `{name}_graph_indicator.txt`, ... of the collection,
            there or in a folder `{name}` or `{name}/raw`; or `{name}.npz`, which holds the same.
        name: of the set.
        fold, folds, seed: which part is for the test, see `zoo.ignn.folds`.
        per_pack: graphs of a pack.
        attributes: whether the nodes' attributes are features too.

    Raises:
        UserError: a file is missing, damaged, or has not what it should; names file and row.
    """
    folder = data_folder(folder, f"{name}_A.txt, ... or {name}.npz")
    text = text_folder(folder, name)
    read = read_archive(folder / f"{name}.npz") if text is None else read_text(text, name)
    check_apart(read.whole, read.graph)  # while edges have the numbers of the file
    whole = unweighted(undirected(read.whole), self_loops=False)
    whole = augmented(_featured(whole, read, attributes))
    # one call for all is quicker, and the radius is 1 for each as for all
    graphs = [dataclasses.replace(graph, radius=1.0) for graph in parted(whole, read.graph)]
    return stratified(
        graphs,
        read.classes,
        fold=fold,
        folds=folds,
        seed=seed,
        per_pack=per_pack,
    )


def read_archive(path: pathlib.Path) -> Read:
    """What `{name}.npz` holds.

    Its arrays are `graph_ptr` (G + 1,), where each graph's nodes begin, `edges` (E, 2), each once,
    `graph_labels` (G,) and, if there are some, `node_tags` (N,) and `node_attributes` (N, p).
    """
    archive = Archive(path)
    starts = archive.integers("graph_ptr", None)
    n = int(starts[-1]) if len(starts) else 0
    starts = archive.offsets("graph_ptr", n)
    edges = archive.integers("edges", None, 2)
    archive.check_range("edges", edges, 0, n)
    labels = archive.integers("graph_labels", len(starts) - 1)
    tags = archive.integers("node_tags", n) if "node_tags" in archive else None
    attributes = None
    if "node_attributes" in archive:
        attributes = archive.numbers("node_attributes", n, None)
    return Read(
        Graph(n, edges[:, 0], edges[:, 1], name=str(path)),
        np.repeat(np.arange(len(labels)), np.diff(starts)),
        np.unique(labels, return_inverse=True)[1],
        tags,
        attributes,
    )


def _featured(whole: Graph, read: Read, attributes: bool) -> Graph:
    """The graph with features of its nodes."""
    if read.tags is None:
        x = np.asarray(matrix(whole).sum(0)).reshape(-1, 1)
    else:
        tags = np.unique(read.tags, return_inverse=True)[1]
        x = np.eye(tags.max(initial=-1) + 1)[tags]
    if attributes and read.attributes is not None:
        x = np.concatenate([x, read.attributes], 1)
    return Graph(whole.n_nodes, whole.sources, whole.targets, features=x, name=whole.name)
