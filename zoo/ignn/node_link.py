"""Graphs as JSON, in NetworkX's node-link format."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from zoo.errors import UserError
from zoo.ignn.adjacency import undirected, unweighted
from zoo.ignn.graph import Graph
from zoo.plain_json import read_json


class NodeLink(NamedTuple):
    """The nodes, as they are in the file, each of which has its place as `id`; and the edges.

    `edges` (E, 2) int64 are sources and targets; `directed` is whether they go that way only.
    """

    nodes: Sequence[Mapping[str, Any]]
    edges: np.ndarray
    directed: bool

    def graph(self, name: str, features: np.ndarray, labels: np.ndarray) -> Graph:
        """With these features and labels of its nodes; every link is one edge."""
        sources, targets = self.edges.T
        return Graph(len(self.nodes), sources, targets, features=features, labels=labels, name=name)

    def plain(self, graph: Graph) -> Graph:
        """What links stand for: edges of weight 1, in both directions unless directed; no loops."""
        return unweighted(graph if self.directed else undirected(graph), self_loops=False)


def read_node_link(path: pathlib.Path) -> NodeLink:
    """Reads such a file.

    Raises:
        UserError: it is missing or damaged, or a node or a link is not as it should be; names it.
    """
    content = read_value(path, dict)
    nodes, links = content.get("nodes"), content.get("links", content.get("edges"))
    for what, found in (("nodes", nodes), ("links", links)):
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            raise UserError(f"{path}: expected a list of {what}")
    for row, node in enumerate(nodes):
        if node.get("id") != row:
            raise UserError(f"{path}: node {row} has the id {node.get('id')!r}, expected {row}")
    edges = np.zeros((len(links), 2), np.int64)
    for row, link in enumerate(links):
        ends = (link.get("source"), link.get("target"))
        if not all(type(end) is int and 0 <= end < len(nodes) for end in ends):
            raise UserError(
                f"{path}: link {row} is from {ends[0]!r} to {ends[1]!r}, "
                f"expected 0 to {len(nodes) - 1}"
            )
        edges[row] = ends
    return NodeLink(nodes, edges, content.get("directed") is True)


def read_value(path: pathlib.Path, kind: type) -> Any:
    """A JSON file's value of this type; raises `UserError` if it has none."""
    try:
        value = read_json(path)
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror})") from e
    except ValueError as e:
        raise UserError(f"{path}: not readable JSON ({e})") from e
    if not isinstance(value, kind):
        raise UserError(f"{path}: {type(value).__name__}, expected {kind.__name__} at the top")
    return value
