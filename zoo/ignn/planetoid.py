"""The Planetoid citation graphs: Cora, Citeseer, Pubmed, with their public splits."""

import pathlib

import numpy as np

from zoo.data.split import Data
from zoo.errors import UserError
from zoo.ignn.adjacency import augmented, row_normalized, undirected, unweighted
from zoo.ignn.archive import Archive, data_folder
from zoo.ignn.csr import dense
from zoo.ignn.graph import Graph
from zoo.ignn.planetoid_pickles import FIRST, Citations, read_pickles
from zoo.ignn.transductive import transductive

SPLITS = {"train": "train_idx", "valid": "val_idx", "test": "test_idx"}


def planetoid(folder: pathlib.Path | None, name: str, *, row_normalize: bool = True) -> Data:
    """One graph with classes of nodes; its adjacency matrix is `augmented`.

    Args:
        folder: has `{name}.npz`: `edges` (E, 2), each once; features as a CSR matrix, `feat_shape`
            (2,), `feat_indptr`, `feat_indices`, `feat_data`; `labels` (N,), -1 where unknown;
            `train_idx`, `val_idx`, `test_idx`. Or the published files `ind.{name}.x`, ...
        name: "cora", "citeseer", "pubmed", or whatever else there is.
        row_normalize: divide the features of each node by their sum.

    Raises:
        UserError: a file is missing or damaged, or has not what it should; names file and row.
    """
    folder = data_folder(folder, f"{name}.npz or {FIRST.format(name)}, ...")
    path = folder / f"{name}.npz"
    published = not path.exists() and (folder / FIRST.format(name)).exists()
    read = read_pickles(folder, name) if published else _read_archive(path)
    graph = Graph(
        len(read.x),
        read.edges[:, 0],
        read.edges[:, 1],
        features=row_normalized(read.x) if row_normalize else read.x,
        labels=read.labels,
        name=str(folder / f"ind.{name}" if published else path),
    )
    graph = unweighted(undirected(graph), self_loops=False)
    n_classes = int(read.labels.max(initial=0)) + 1
    return transductive(augmented(graph), read.splits, n_classes=n_classes)


def _read_archive(path: pathlib.Path) -> Citations:
    archive = Archive(path)
    n, features = map(int, archive.integers("feat_shape", 2))
    edges = archive.integers("edges", None, 2)
    archive.check_range("edges", edges, 0, n)
    splits = {split: archive.integers(key, None) for split, key in SPLITS.items()}
    return Citations(_dense(archive, n, features), archive.integers("labels", n), edges, splits)


def _dense(archive: Archive, n: int, features: int) -> np.ndarray:
    """The features (N, p) of a CSR matrix."""
    columns = archive.integers("feat_indices", None)
    starts = archive.offsets("feat_indptr", len(columns))
    archive.integers("feat_indptr", n + 1)
    archive.check_range("feat_indices", columns, 0, features)
    values = archive.numbers("feat_data", len(columns))
    try:
        return dense(starts, columns, values, features)
    except ValueError as e:
        raise UserError(f"{archive.path}: {e}") from e
