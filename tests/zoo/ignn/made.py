"""Small packs of graphs, and their dense adjacency matrices."""

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from zoo.ignn.propagation import Edges


def dense(edges: Edges, nodes: int) -> np.ndarray:
    """A of every pack (B, N, N); weights of edges that are there twice add up."""
    made = np.zeros((len(edges.rho), nodes, nodes))
    for pack, ends in enumerate(zip(edges.sources, edges.targets, edges.weights, strict=True)):
        for source, target, weight in zip(*map(np.asarray, ends), strict=True):
            made[pack, source, target] += weight
    return made


def edges_of(*packs, dtype: DTypeLike = np.float32) -> Edges:
    """Of lists of (source, target, weight); shorter ones are filled up with weight 0."""
    longest = max((len(pack) for pack in packs), default=0)
    rows = np.zeros((len(packs), max(longest, 1), 3))
    for row, pack in zip(rows, packs, strict=True):
        row[: len(pack)] = np.reshape(pack, (-1, 3))
    sources, targets = (jnp.asarray(rows[..., i], jnp.int32) for i in range(2))
    edges = Edges(sources, targets, jnp.asarray(rows[..., 2], dtype), jnp.zeros(len(packs)))
    nodes = int(rows[..., :2].max(initial=0)) + 1
    rho = [np.abs(np.linalg.eigvals(np.abs(a))).max() for a in dense(edges, nodes)]
    return edges._replace(rho=jnp.asarray(rho, dtype))


def random_edges(
    rng, packs: int, nodes: int, edges: int, dtype: DTypeLike = np.float32, *, unit: bool = False
) -> Edges:
    """With weights of both signs; some edges are there twice, and some are self loops.

    If `unit`, spectral radii are 1.
    """
    made = []
    for _ in range(packs):
        ends = rng.integers(0, nodes, (edges, 2))
        made.append([(s, t, w) for (s, t), w in zip(ends, rng.normal(size=edges), strict=True)])
    found = edges_of(*made, dtype=dtype)
    if not unit:
        return found
    return found._replace(weights=found.weights / found.rho[:, None], rho=found.rho / found.rho)
