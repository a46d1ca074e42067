"""Protein-protein interactions: 24 graphs of tissues, whose nodes have any of 121 labels."""

import pathlib

import numpy as np

from zoo.data.split import Data
from zoo.errors import UserError
from zoo.ignn.archive import data_folder
from zoo.ignn.graph import Graph, parted
from zoo.ignn.node_link import read_node_link
from zoo.ignn.npy import read_npy
from zoo.ignn.packing import check_alike
from zoo.ignn.packs import Packs
from zoo.ignn.ppi_graphsage import NAME, SPLITS, read_graphsage


def ppi(folder: pathlib.Path | None) -> Data:
    """Whole graphs for training, validation and test; A is 0 or 1, without loops.

    Args:
        folder: has `train_graph.json`, `train_feats.npy`, `train_labels.npy` and
            `train_graph_id.npy`, and the same for valid and test, there or in `raw` or `ppi`: what
            PyTorch Geometric and DGL download. Or `ppi-G.json`, `ppi-feats.npy`,
            `ppi-class_map.json` and `ppi-id_map.json`: what came with GraphSAGE.

    Raises:
        UserError: a file is missing or damaged, or has not what it should; names file and row.
    """
    graphsage = NAME.format("G.json")
    folder = data_folder(folder, f"train_graph.json, train_feats.npy, ... or {graphsage}")
    for place in (folder, folder / "raw", folder / "ppi"):
        if (place / graphsage).exists():
            graphs = read_graphsage(place)
            break
        if (place / "train_graph.json").exists():
            graphs = {split: _read(place, split) for split in SPLITS}
            break
    else:
        raise UserError(f"{folder}: has neither train_graph.json nor {graphsage}")
    for split, of in graphs.items():
        if not of:
            raise UserError(f"{place}: no graphs for {split}")
    check_alike([graph for of in graphs.values() for graph in of])
    packs = {split: Packs(of) for split, of in graphs.items()}
    first = graphs["train"][0]
    sizes = {
        "n_features": first.n_features,
        "n_classes": np.asarray(first.labels).shape[1],
        "labels": "any",
    }
    return Data(packs["train"], packs["test"], packs["valid"], sizes=sizes)


def _read(folder: pathlib.Path, split: str) -> list[Graph]:
    """The graphs of one split, in the format of PyTorch Geometric's and DGL's download."""
    path = folder / f"{split}_graph.json"
    read = read_node_link(path)
    n = len(read.nodes)
    number = read_npy(folder / f"{split}_graph_id.npy", n)
    x = read_npy(folder / f"{split}_feats.npy", n, None)
    labels = read_npy(folder / f"{split}_labels.npy", n, None)
    graphs = parted(read.graph(str(path), x, labels), number, first=int(number[0]) if n else 0)
    return [read.plain(graph) for graph in graphs]
