"""One graph, some nodes of which are learned from and others are for the test."""

from collections.abc import Mapping

import numpy as np

from zoo.data.split import Data
from zoo.errors import UserError
from zoo.ignn.graph import Graph
from zoo.ignn.packs import Packs
from zoo.ignn.shapes import INTEGERS, unlike


def transductive(graph: Graph, splits: Mapping[str, np.ndarray], *, n_classes: int) -> Data:
    """The data of one graph whose splits are sets of its nodes.

    Every split is the whole graph, as one pack; they differ by `mask` alone.

    Args:
        graph: with labels of its nodes.
        splits: numbers of nodes (n,), for "train", "test" and, if there is one, "valid".
        n_classes: how many classes, or labels of a node, there are.

    Raises:
        UserError: a split is empty, has a node that is not there, or twice, or that another one
            has too, or whose label is unknown or beyond the classes; names the split and its row.
    """
    owner = np.full(graph.n_nodes, "", object)
    packs = {}
    for name, nodes in splits.items():
        where = f"{graph.name}: {name} split"
        _check(where, graph, nodes, n_classes)
        for row, node in enumerate(nodes.tolist()):
            if owner[node]:
                raise UserError(
                    f"{where}, row {row}: node {node} is in the {owner[node]} split already, "
                    "expected each node once"
                )
            owner[node] = name
        packs[name] = Packs([graph], [owner == name])
    sizes = {
        "n_features": graph.n_features,
        "n_classes": n_classes,
        "n_nodes": graph.n_nodes,
    }
    return Data(packs["train"], packs["test"], packs.get("valid"), sizes=sizes)


def _check(where: str, graph: Graph, nodes: np.ndarray, n_classes: int) -> None:
    if (found := unlike(nodes, (None,), INTEGERS)) is not None:
        raise UserError(f"{where} is {found}")
    if not len(nodes):
        raise UserError(f"{where} is empty, expected at least one node")
    outside = (nodes < 0) | (nodes >= graph.n_nodes)
    if outside.any():
        row = int(np.argmax(outside))
        raise UserError(f"{where}, row {row}: node {nodes[row]}, expected 0 to {graph.n_nodes - 1}")
    if graph.labels is not None and graph.labels.ndim == 1:
        labels = graph.labels[nodes]
        wrong = (labels < 0) | (labels >= n_classes)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise UserError(
                f"{where}, row {row}: node {nodes[row]} has the label {labels[row]}, "
                f"expected 0 to {n_classes - 1}"
            )
