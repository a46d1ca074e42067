"""Graphs for tests."""

from typing import Any

import numpy as np

from zoo.ignn.graph import Graph


def graph(n_nodes: int, *edges: tuple[int, int], **fields: Any) -> Graph:
    """A graph by its edges (source, target); fields may be lists."""
    ends = np.array(edges, int).reshape(-1, 2)
    return Graph(n_nodes, ends[:, 0], ends[:, 1], **fields)


def random_graph(rng: np.random.Generator, n_nodes: int, n_edges: int, **fields: Any) -> Graph:
    """Random edges, loops and double ones among them, with random weights and two features."""
    ends = rng.integers(0, max(n_nodes, 1), (2, n_edges if n_nodes else 0))
    return Graph(
        n_nodes,
        *ends,
        weights=rng.random(ends.shape[1]),
        features=rng.normal(size=(n_nodes, 2)),
        **fields,
    )


def ring(n_nodes: int, **fields: Any) -> Graph:
    """A directed ring."""
    return graph(n_nodes, *[(i, (i + 1) % n_nodes) for i in range(n_nodes)], **fields)


def chain(n_nodes: int, **fields: Any) -> Graph:
    """A directed chain."""
    return graph(n_nodes, *[(i, i + 1) for i in range(n_nodes - 1)], **fields)
