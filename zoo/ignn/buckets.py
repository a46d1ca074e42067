"""A few sizes for packs of graphs, so that few programs are compiled for them."""

import math
from typing import NamedTuple

import numpy as np

GROWTH = 1.5  # from a bucket to the next: a third of the larger one is padding, at most


class Bucket(NamedTuple):
    """What packs are padded to: a number of nodes and of edges, each at least 1."""

    nodes: int
    edges: int

    def holds(self, nodes: int, edges: int) -> bool:
        """Whether packs of these sizes fit."""
        return nodes <= self.nodes and edges <= self.edges


def buckets(nodes: np.ndarray, edges: np.ndarray, per_pack: int) -> list[Bucket]:
    """Buckets for all packs of `per_pack` of some graphs, ascending.

    The largest is for those with the most nodes and the most edges, and thus for every pack. One
    graph, which is its own pack, has one bucket, without padding.

    Args:
        nodes, edges: (G,), how many each graph has.
        per_pack: graphs of a pack, at most.

    Example:
        >>> buckets(np.array([4, 10, 40]), np.array([8, 30, 90]), 1)
        [Bucket(nodes=6, edges=12), Bucket(nodes=8, edges=18), Bucket(nodes=12, edges=27),
         Bucket(nodes=18, edges=40), Bucket(nodes=27, edges=60), Bucket(nodes=40, edges=90)]
    """
    most = [int(np.sort(sizes)[-per_pack:].sum()) for sizes in (nodes, edges)]
    least = [int(np.sort(sizes)[:per_pack].sum()) for sizes in (nodes, edges)]
    made, share = [], 1.0
    while not made or all(n * share >= max(m, 1) for n, m in zip(most, least, strict=True)):
        made.append(Bucket(*(max(1, math.ceil(n * share)) for n in most)))
        share /= GROWTH
    return made[::-1]


def smallest(made: list[Bucket], nodes: int, edges: int) -> Bucket:
    """The first of ascending buckets that holds packs of these sizes."""
    return next(bucket for bucket in made if bucket.holds(nodes, edges))
