"""Adjacency matrices: as SciPy's, made undirected, normalised."""

import dataclasses

import numpy as np

from zoo.errors import UserError
from zoo.ignn.graph import Graph


def matrix(graph: Graph):
    """A as SciPy's CSC matrix (N, N) in float64; edges that are there twice are added up."""
    from scipy import sparse  # slow to import

    ends = (graph.sources, graph.targets)
    return sparse.coo_matrix((graph.weights, ends), shape=(graph.n_nodes,) * 2).tocsc()


def with_matrix(graph: Graph, a, *, radius: float | None = None) -> Graph:
    """The graph with another adjacency matrix (N, N); its edges are sorted by target.

    Args:
        graph: gives the nodes.
        a: SciPy's sparse matrix; entries that are 0 are no edges.
        radius: the spectral radius of |A|, if it is known.
    """
    a = a.tocsc(copy=True)
    a.sum_duplicates()  # and sorts
    a.eliminate_zeros()
    a = a.tocoo()
    return dataclasses.replace(graph, sources=a.row, targets=a.col, weights=a.data, radius=radius)


def undirected(graph: Graph) -> Graph:
    """Every edge in both directions; of two that there are, the larger weight is that of both."""
    a = matrix(graph)
    return with_matrix(graph, a.maximum(a.T))


def unweighted(graph: Graph, *, self_loops: bool = True) -> Graph:
    """A with 1 wherever there is an edge; without `self_loops`, A[i, i] = 0."""
    a = matrix(graph)
    a.data[:] = a.data != 0
    if not self_loops:
        a.setdiag(0)
    return with_matrix(graph, a)


def augmented(graph: Graph) -> Graph:
    """D^-1/2 (A + I) D^-1/2 with the row sums D of A + I, of directed graphs too ("AugNormAdj").

    With no negative weight its spectral radius is 1: it is similar to D^-1 (A + I), whose rows
    sum to 1.

    Raises:
        UserError: a row of A + I has a negative sum.

    Example:
        >>> matrix(augmented(Graph(2, np.array([0]), np.array([1])))).toarray().round(4)
        array([[0.5   , 0.7071],
               [0.    , 1.    ]])
    """
    from scipy import sparse  # slow to import

    a = matrix(graph) + sparse.identity(graph.n_nodes, format="csc")
    known = 1.0 if graph.n_nodes and np.all(a.data >= 0) else None
    return with_matrix(graph, _normalized(graph, a), radius=known)


def normalized(graph: Graph) -> Graph:
    """D^-1/2 A D^-1/2 with the row sums D of A; a node whose row sums to 0 has no edges.

    Raises:
        UserError: a row of A has a negative sum.
    """
    return with_matrix(graph, _normalized(graph, matrix(graph)))


def row_normalized(features: np.ndarray) -> np.ndarray:
    """(N, p), each row divided by its sum; those that sum to 0 become zeros."""
    return features * _power(features.sum(1), -1.0)[:, None]


def _normalized(graph: Graph, a):
    from scipy import sparse  # slow to import

    sums = np.asarray(a.sum(1)).ravel()
    if (sums < 0).any():
        node = int(np.argmax(sums < 0))
        raise UserError(
            f"{graph.name}: the weights of the edges from node {node} sum to {sums[node]:g}, "
            "expected 0 or more"
        )
    scale = sparse.diags(_power(sums, -0.5), format="csc")
    return scale @ a @ scale


def _power(sums: np.ndarray, exponent: float) -> np.ndarray:
    """Elementwise; of 0 it is 0."""
    with np.errstate(divide="ignore"):
        return np.where(sums == 0, 0.0, np.power(sums, exponent))
