"""The Planetoid citation graphs: Cora, Citeseer, Pubmed, with their public splits."""

import pathlib

import numpy as np

from zoo.data.split import Data
from zoo.ignn.adjacency import augmented, row_normalized, undirected, unweighted
from zoo.ignn.archive import Archive, data_folder
from zoo.ignn.graph import Graph
from zoo.ignn.transductive import transductive

SPLITS = {"train": "train_idx", "valid": "val_idx", "test": "test_idx"}


def planetoid(folder: pathlib.Path | None, name: str, *, row_normalize: bool = True) -> Data:
    """One graph with classes of nodes; its adjacency matrix is `augmented`.

    Args:
        folder: has `{name}.npz`: `edges` (E, 2), each once; features as a CSR matrix, `feat_shape`
            (2,), `feat_indptr`, `feat_indices`, `feat_data`; `labels` (N,), -1 where unknown;
            `train_idx`, `val_idx`, `test_idx`.
        name: "cora", "citeseer", "pubmed", or whatever else there is.
        row_normalize: divide the features of each node by their sum.

    Raises:
        UserError: a file is missing or damaged, or has not what it should; names file and row.
    """
    folder = data_folder(folder, f"{name}.npz")
    archive = Archive(folder / f"{name}.npz")
    n, features = archive.integers("feat_shape", 2)
    edges = archive.integers("edges", None, 2)
    archive.check_range("edges", edges, 0, n)
    x = _dense(archive, int(n), int(features))
    labels = archive.integers("labels", int(n))
    graph = Graph(
        int(n),
        *edges.T,
        features=row_normalized(x) if row_normalize else x,
        labels=labels,
        name=str(archive.path),
    )
    graph = unweighted(undirected(graph), self_loops=False)
    splits = {split: archive.integers(key, None) for split, key in SPLITS.items()}
    return transductive(augmented(graph), splits, n_classes=int(labels.max(initial=0)) + 1)


def _dense(archive: Archive, n: int, features: int) -> np.ndarray:
    """The features (N, p) of a CSR matrix."""
    columns = archive.integers("feat_indices", None)
    starts = archive.offsets("feat_indptr", len(columns))
    archive.integers("feat_indptr", n + 1)
    archive.check_range("feat_indices", columns, 0, features)
    x = np.zeros((n, features), np.float32)
    x[np.repeat(np.arange(n), np.diff(starts)), columns] = archive.numbers(
        "feat_data", len(columns)
    )
    return x
