"""Graphs laid one behind the other, from which packs are cut."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from zoo.data.split import Batch
from zoo.errors import UserError
from zoo.ignn.buckets import Bucket
from zoo.ignn.graph import Graph
from zoo.ignn.radius import spectral_radius

Level = Literal["node", "graph"]  # what is classified


class Packing:
    """Makes the rows of a batch: block-diagonal unions of graphs, padded to a bucket.

    Args:
        graphs: with equally many features, and labels of the same kind.
        masks: which nodes count, (N,) of each graph; never those whose label is unknown.
        level: what is classified; by default what has labels.

    Raises:
        UserError: the graphs do not go together; names the file of the one that does not.
    """

    def __init__(
        self,
        graphs: Sequence[Graph],
        masks: Sequence[np.ndarray] | None = None,
        level: Level | None = None,
    ):
        check_alike(graphs)
        labels = [graph.labels for graph in graphs if graph.labels is not None]  # all, or none
        self.level: Level = level or ("graph" if labels and labels[0].ndim == 0 else "node")
        self.n_nodes = np.array([graph.n_nodes for graph in graphs])
        self.n_edges = np.array([graph.n_edges for graph in graphs])
        self._first_node = np.cumsum(self.n_nodes) - self.n_nodes
        self._first_edge = np.cumsum(self.n_edges) - self.n_edges
        self._radius = np.array([spectral_radius(graph) for graph in graphs])
        self._edges = {
            "sources": _joined([graph.sources for graph in graphs]),
            "targets": _joined([graph.targets for graph in graphs]),
            "weights": _joined([graph.weights for graph in graphs]).astype(np.float32),
        }
        self._nodes = {"x": _joined([_features(graph) for graph in graphs])}
        self._of_graphs: dict[str, np.ndarray] = {}
        per_row = self._of_graphs if self.level == "graph" else self._nodes
        counts = np.ones(len(graphs) if self.level == "graph" else self.n_nodes.sum(), bool)
        if labels:
            y = np.stack(labels) if self.level == "graph" else _joined(labels)
            per_row["y"] = np.maximum(y, 0)
            counts = (y >= 0) if y.ndim == 1 else counts
        if masks is not None:
            counts = counts & _joined(masks).astype(bool)
        per_row["mask"] = counts.astype(np.float32)

    def __len__(self) -> int:
        """How many graphs there are."""
        return len(self.n_nodes)

    def sizes(self, index: np.ndarray) -> tuple[int, int]:
        """The most nodes and the most edges that a row has; see `rows`."""
        most = lambda n: int(_counts(n, index).sum(1).max())
        return most(self.n_nodes), most(self.n_edges)

    def dealt(self, index: np.ndarray, b: int) -> np.ndarray:
        """Graphs (b G,) as b packs (b, G) with about as many edges: the largest first, to and fro.

        What all packs are padded to depends on the largest of them.
        """
        rounds = index[np.argsort(-self.n_edges[index], kind="stable")].reshape(-1, b)
        rounds[1::2] = rounds[1::2, ::-1]
        return rounds.T

    def rows(self, index: np.ndarray, bucket: Bucket) -> Batch:
        """One row for each pack; see `Packs` for what it has.

        Args:
            index: (B, G), the numbers of the graphs in each pack; -1 for none.
            bucket: B packs of these sizes fit into it.
        """
        b, g = index.shape
        nodes, edges = _counts(self.n_nodes, index), _counts(self.n_edges, index)
        row = np.arange(b)[:, None]
        before = np.cumsum(nodes, 1) - nodes  # in the same row
        at = _ranges(row * bucket.nodes + before, nodes)
        of = _ranges(self._first_node[index], nodes)
        batch = {
            name: _placed(b, bucket.nodes, at, array[of]) for name, array in self._nodes.items()
        }
        # padding comes first, so that targets which ascend in each graph ascend in the row
        padding = bucket.edges - edges.sum(1, keepdims=True)
        at_edges = _ranges(row * bucket.edges + padding + np.cumsum(edges, 1) - edges, edges)
        of_edges = _ranges(self._first_edge[index], edges)
        shift = np.repeat(before.ravel(), edges.ravel())
        for name, array in self._edges.items():
            values = array[of_edges] if name == "weights" else array[of_edges] + shift
            batch[name] = _placed(b, bucket.edges, at_edges, values.astype(array.dtype))
        there = index >= 0
        batch["rho"] = np.where(there, self._radius[index], 0).max(1).astype(np.float32)
        if self.level == "graph":
            number = np.repeat(np.tile(np.arange(g), b), nodes.ravel())
            batch["graph"] = _placed(b, bucket.nodes, at, number.astype(np.int32), fill=g)
            for name, array in self._of_graphs.items():
                batch[name] = np.where(there, array[index], 0).astype(array.dtype)
        return batch


def check_alike(graphs: Sequence[Graph]) -> None:
    """Raises UserError for the first of some graphs that does not go together with the others."""
    first = graphs[0]
    kind = lambda labels: None if labels is None else (labels.ndim, labels.shape[1:])
    for graph in graphs:
        if graph.features is None and len(graphs) > 1:
            raise UserError(
                f"{graph.name}: has no features, expected them where graphs are several"
            )
        if graph.n_features != first.n_features:
            raise UserError(
                f"{graph.name}: its nodes have {graph.n_features} features, expected "
                f"{first.n_features} as in {first.name}"
            )
        if kind(graph.labels) != kind(first.labels):
            raise UserError(
                f"{graph.name}: its labels are of another kind than those of {first.name}"
            )


def _features(graph: Graph) -> np.ndarray:
    return np.zeros((graph.n_nodes, 0), np.float32) if graph.features is None else graph.features


def _joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _counts(n: np.ndarray, index: np.ndarray) -> np.ndarray:
    """(B, G), of the graphs that are there."""
    return np.where(index >= 0, n[index], 0)


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """start, start + 1, ..., `count` of them, for each of both arrays' entries."""
    starts, counts = starts.ravel(), counts.ravel()
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(counts.sum())


def _placed(b: int, n: int, at: np.ndarray, values: np.ndarray, fill: int = 0) -> np.ndarray:
    """(b, n, ...), with the values at these places of the first two axes taken together."""
    out = np.full((b * n, *values.shape[1:]), fill, values.dtype)
    out[at] = values
    return out.reshape(b, n, *values.shape[1:])
