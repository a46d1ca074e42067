"""The spectral radius of |A|: what a weight matrix must be small beside."""

from typing import Any

import numpy as np

from zoo.ignn.adjacency import matrix
from zoo.ignn.graph import Graph

TOL = 1e-13  # relative; what is made of it is float32
RESTARTS = 100  # of ARPACK, which needs few where a graph is wide, and for ever where it is long
SMALL = 2000  # nodes up to which solving is quicker than finding that ARPACK does not converge


def spectral_radius(graph: Graph) -> float:
    """The largest modulus of an eigenvalue of |A|, (N, N), taken entry by entry.

    It is that of the strongly connected components, one by one. What is between them adds nothing,
    and is what makes eigenvalues of directed graphs ill-conditioned: those of a chain, all 0, are
    far from it once they are rounded. In a component the radius is a simple eigenvalue, the one
    with the largest real part, and its vector is positive (Perron and Frobenius).

    Example:
        >>> chain = Graph(9, np.arange(8), np.arange(1, 9))
        >>> spectral_radius(chain)
        0.0
        >>> ring = Graph(9, np.arange(9), np.arange(1, 10) % 9)
        >>> round(spectral_radius(ring), 12)
        1.0
    """
    if graph.radius is not None:
        return graph.radius
    from scipy.sparse.csgraph import connected_components  # slow to import

    a = abs(matrix(graph))
    a.eliminate_zeros()
    largest = a.diagonal().max(initial=0.0)  # all that there is of components of one node
    if a.nnz == 0:
        return float(largest)
    _, component = connected_components(a, connection="strong")
    order = np.argsort(component, kind="stable")
    counts = np.bincount(component)
    a = a.tocsr()[order][:, order]
    for stop, n in zip(np.cumsum(counts), counts, strict=True):
        if n > 1:
            largest = max(largest, _irreducible(a[stop - n : stop, stop - n : stop]))
    return float(largest)


def _irreducible(a) -> float:
    """Of one strongly connected component, of more than one node."""
    from scipy.sparse.linalg import ArpackNoConvergence, eigs, eigsh  # slow to import

    symmetric = abs(a - a.T).max() == 0
    if not symmetric and a.shape[0] <= SMALL:
        return _noda(a)
    solver, which = (eigsh, "LA") if symmetric else (eigs, "LR")
    # no random start: the same graph has the same radius
    options: Any = {"v0": np.ones(a.shape[0]), "tol": TOL, "maxiter": RESTARTS}
    try:
        values = solver(a, k=1, which=which, return_eigenvectors=False, **options)
    except ArpackNoConvergence:
        return _noda(a)
    return float(np.real(values[0]))


def _noda(a) -> float:
    """Noda's iteration (Numer. Math. 17, 1971): inverse iteration with bounds for shifts.

    For a positive x the radius is at most max_i (A x)_i / x_i, and at least the least of these
    (Collatz and Wielandt). With the upper bound as shift the next x is positive again, and the
    bounds close in quadratically, however ill-conditioned other eigenvalues are. Where rounding
    keeps them apart, as for weights that differ by more than its reciprocal, it is the upper one.
    """
    from scipy.sparse import identity  # slow to import
    from scipy.sparse.linalg import splu

    eye = identity(a.shape[0], format="csc")
    x, upper = np.ones(a.shape[0]), np.inf
    while True:
        ratios = (a @ x) / x
        lower, previous, upper = ratios.min(), upper, min(upper, ratios.max())
        if upper - lower <= TOL * upper or upper == previous:  # rounding has the last digits
            return float(upper)
        try:
            y = splu(upper * eye - a.tocsc()).solve(x)
        except RuntimeError:  # singular: the bound is the eigenvalue
            return float(upper)
        y = np.abs(y) / np.abs(y).max()
        if not y.min() > 0:
            return float(upper)
        x = y
