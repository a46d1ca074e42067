"""A graph with features, and the file that one may come in."""

import dataclasses
import itertools
import pathlib
from collections.abc import Mapping

import numpy as np

from zoo.arrays import NUMBERS, load_arrays
from zoo.errors import UserError
from zoo.ignn.shapes import INTEGERS, unlike

ARRAYS = ("x", "sources", "targets", "weights", "graph", "n_nodes")  # of a graph file


@dataclasses.dataclass(frozen=True)
class Graph:
    """Nodes with features and labels, and weighted edges between them.

    Edge e is `A[sources[e], targets[e]] = weights[e]` of the adjacency matrix; what is there twice
    adds up. Anything that can be turned into arrays is taken, whatever its precision.

    Args:
        n_nodes: N.
        sources, targets: (E,) int32, between 0 and N - 1.
        weights: (E,) float64; 1 if they are not given.
        features: (N, p) float32; without any, they are those of the identity, p = N, which is
            never written down.
        labels: classes of the nodes (N,) int32, where -1 is an unknown one; or several of L at
            once (N, L) float32, 0 or 1; or () int32, the class of the whole graph
            (-1 likewise).
        radius: the spectral radius of |A|, where it is known.
        name: of the file that it is from, for messages.

    Raises:
        UserError: an array has not the right kind, shape or values; names the file and the row.

    Example:
        >>> Graph(3, [0, 1], [1, 2]).weights
        array([1., 1.])
        >>> Graph(3, [0, 1], [1, 3])
        Traceback (most recent call last):
            ...
        zoo.errors.UserError: graph: edge 1 has the target 3, expected 0 to 2
    """

    n_nodes: int
    sources: np.ndarray
    targets: np.ndarray
    weights: np.ndarray = None  # pyright: ignore[reportAssignmentType]  # ones, once it is made
    features: np.ndarray | None = None
    labels: np.ndarray | None = None
    radius: float | None = None
    name: str = "graph"

    def __post_init__(self) -> None:
        checked = {"sources": self._ends("source"), "targets": self._ends("target")}
        edges = len(checked["sources"])
        if len(checked["targets"]) != edges:
            raise UserError(
                f"{self.name}: {edges} sources and {len(checked['targets'])} targets, "
                "expected as many of each"
            )
        weights = np.ones(edges) if self.weights is None else self.weights
        weights = self._array("weights", weights, (edges,), NUMBERS)
        self._check_finite("edge", "weight", weights)
        checked["weights"] = weights.astype(np.float64)
        if self.features is not None:
            checked["features"] = self._features(np.asarray(self.features))
        if self.labels is not None:
            checked["labels"] = self._labels(np.asarray(self.labels))
        for field, array in checked.items():
            object.__setattr__(self, field, array)

    @property
    def n_edges(self) -> int:
        """E."""
        return len(self.sources)

    @property
    def n_features(self) -> int:
        """p, of given features or of the identity."""
        return self.n_nodes if self.features is None else self.features.shape[1]

    def _ends(self, end: str) -> np.ndarray:
        """The sources or the targets, as int32."""
        nodes = self._array(f"{end}s", getattr(self, f"{end}s"), (None,), INTEGERS)
        outside = (nodes < 0) | (nodes >= self.n_nodes)
        if outside.any():
            edge = int(np.argmax(outside))
            raise UserError(
                f"{self.name}: edge {edge} has the {end} {nodes[edge]}, expected "
                + (f"0 to {self.n_nodes - 1}" if self.n_nodes else "none: there are no nodes")
            )
        return nodes.astype(np.int32)

    def _features(self, x: np.ndarray) -> np.ndarray:
        self._array("features", x, (self.n_nodes, None), NUMBERS)
        if x.shape[1] < 1:
            raise UserError(f"{self.name}: its nodes have 0 features, expected at least 1")
        self._check_finite("node", "feature", x)
        return x.astype(np.float32)

    def _labels(self, labels: np.ndarray) -> np.ndarray:
        multiple = labels.ndim >= 2
        shape = (self.n_nodes, None)[: 2 if multiple else labels.ndim]
        self._array("labels", labels, shape, NUMBERS if multiple else INTEGERS)
        wrong = (labels != 0) & (labels != 1) if multiple else (labels < -1)
        if wrong.any():
            first = int(np.argmax(wrong))
            label = labels.ravel()[first]
            of = f"node {first * self.n_nodes // labels.size}" if labels.ndim else "the graph"
            expected = "0 or 1" if multiple else "0 or more (-1: unknown)"
            raise UserError(f"{self.name}: {of} has the label {label}, expected {expected}")
        return labels.astype(np.float32 if multiple else np.int32)

    def _array(
        self, field: str, array: np.ndarray, shape: tuple[int | None, ...], kinds: str
    ) -> np.ndarray:
        """An array of this shape, where None is any length, and of numbers of these kinds."""
        array = np.asarray(array)
        if array.size == 0 and array.dtype == np.float64:
            array = array.astype(np.int64)  # an empty list
        if (found := unlike(array, shape, kinds)) is not None:
            raise UserError(f"{self.name}: {field} are {found}")
        return array

    def _check_finite(self, row: str, entry: str, array: np.ndarray) -> None:
        """That an array has no NaN, and nothing that float32 does not hold."""
        with np.errstate(over="ignore"):
            wrong = ~np.isfinite(array.astype(np.float32))
        if wrong.any():
            first = int(np.argmax(wrong))
            at, *column = np.unravel_index(first, array.shape)
            entry = " ".join([entry, *map(str, column)])
            raise UserError(
                f"{self.name}: {entry} of {row} {at} is {array.ravel()[first]}, "
                "expected a finite number"
            )


def read_graphs(path: pathlib.Path) -> list[Graph]:
    """The graphs of a `.npz` file, to be classified.

    It holds `x` (N, p), `sources` and `targets` (E,), and may hold `weights` (E,). Instead of `x`
    there may be `n_nodes` (), for a model whose features are the identity. If it holds `graph`
    (N,), the number of each node's graph, ascending from 0 without a gap, then there is a graph
    for each of these numbers, and no edge between two of them; else it is one graph.

    Raises:
        UserError: the file is missing or damaged, or has not what it should; names the row.

    Example:
        np.savez("graph.npz", x=features, sources=[0, 1], targets=[1, 2])
    """
    arrays = load_arrays(path)
    for name in arrays:
        if name not in ARRAYS:
            raise UserError(f"{path}: has an array {name!r}, expected only {', '.join(ARRAYS)}")
    for name in ("sources", "targets"):
        if name not in arrays:
            raise UserError(f"{path}: no array named {name!r}")
    whole = Graph(
        _n_nodes(path, arrays),
        arrays["sources"],
        arrays["targets"],
        arrays.get("weights"),  # pyright: ignore[reportArgumentType]
        arrays.get("x"),
        name=str(path),
    )
    return [whole] if "graph" not in arrays else parted(whole, arrays["graph"])


def parted(whole: Graph, graph: np.ndarray, first: int = 0) -> list[Graph]:
    """A graph for each number in `graph` (N,), which ascends from `first`.

    Raises:
        UserError: the numbers are others, or an edge joins nodes of two graphs.
    """
    if (found := unlike(graph, (whole.n_nodes,), INTEGERS)) is not None:
        raise UserError(f"{whole.name}: graph is {found}")
    graph = graph.astype(np.int64)
    steps = np.diff(graph, prepend=np.int64(first))
    wrong = (steps < 0) | (steps > (np.arange(len(steps)) > 0))
    if wrong.any():
        node = int(np.argmax(wrong))
        raise UserError(
            f"{whole.name}: node {node} is of graph {graph[node]}, "
            f"expected numbers that ascend from {first} without a gap"
        )
    check_apart(whole, graph)
    graph = graph - first
    counts = np.bincount(graph)
    starts = np.concatenate([[0], np.cumsum(counts)])
    of_edge = graph[whole.sources]
    order = np.argsort(of_edge, kind="stable")
    ends = np.searchsorted(of_edge[order], np.arange(len(counts) + 1))
    graphs = []
    for number, (start, stop) in enumerate(itertools.pairwise(starts)):
        edges = order[ends[number] : ends[number + 1]]
        graphs.append(
            Graph(
                int(stop - start),
                whole.sources[edges] - start,
                whole.targets[edges] - start,
                whole.weights[edges],
                None if whole.features is None else whole.features[start:stop],
                None if whole.labels is None else whole.labels[start:stop],
                name=f"{whole.name}, graph {number}",
            )
        )
    return graphs


def check_apart(whole: Graph, graph: np.ndarray) -> None:
    """Raises UserError for the first edge that joins nodes of two graphs, by `graph` (N,)."""
    of_edge = graph[whole.sources]
    across = of_edge != graph[whole.targets]
    if across.any():
        edge = int(np.argmax(across))
        raise UserError(
            f"{whole.name}: edge {edge} joins graphs {of_edge[edge]} and "
            f"{graph[whole.targets[edge]]}, expected nodes of one graph"
        )


def _n_nodes(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> int:
    """As many as there are rows of features, or as the file says instead."""
    if ("x" in arrays) == ("n_nodes" in arrays):
        raise UserError(f"{path}: expected one array of 'x' and 'n_nodes'")
    if "x" in arrays:
        return len(arrays["x"]) if arrays["x"].ndim else 0  # which its check then refuses
    n = arrays["n_nodes"]
    if n.ndim or n.dtype.kind not in INTEGERS or not 0 <= n < 2**31:
        raise UserError(f"{path}: n_nodes is {n}, expected one number of nodes")
    return int(n)
