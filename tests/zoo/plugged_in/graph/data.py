"""A random graph whose nodes have the labels of what is around them."""

import numpy as np

from zoo.data.samples import Samples
from zoo.data.split import Data

NODES, EDGES, FEATURES, LABELS = 320, 960, 4, 3


def random_graph(seed: int = 0) -> Data:
    """Samples are nodes; all batches have the whole graph: its features and its edges."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(NODES, FEATURES)).astype(np.float32)
    edges = rng.integers(0, NODES, (2, EDGES)).astype(np.int32)
    sums, degree = np.zeros_like(features), np.zeros((NODES, 1))
    np.add.at(sums, edges[1], features[edges[0]])
    np.add.at(degree, edges[1], 1)
    around = features + sums / np.maximum(degree, 1)
    labels = (around @ rng.normal(size=(FEATURES, LABELS)) > 0).astype(np.float32)
    nodes = rng.permutation(NODES).astype(np.int32)
    graph = {"features": features, "edges": edges}
    split = lambda of: Samples({"node": of, "y": labels[of]}, whole=graph)
    sizes = {"n_features": FEATURES, "n_labels": LABELS}
    return Data(split(nodes[64:]), test=split(nodes[:64]), sizes=sizes)
