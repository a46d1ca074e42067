"""Chains whose nodes all have the class that only the first of them tells."""

import numpy as np

from zoo.data.split import Data
from zoo.errors import UserError
from zoo.ignn.adjacency import augmented, row_normalized
from zoo.ignn.graph import Graph
from zoo.ignn.transductive import transductive


def chains(
    *,
    length: int = 10,
    classes: int = 2,
    per_class: int = 20,
    features: int = 100,
    noise: float = 0.0,
    counts: tuple[int, int, int] = (20, 100, 200),
    seed: int = 42,
) -> Data:
    """Directed chains; what a node is to be classified by is up to `length - 1` edges away.

    By default, the data set of the IGNN paper and of its published code, in every draw.

    Args:
        length: nodes of a chain.
        classes, per_class: how many classes there are, and chains of each.
        features: p; feature c of the first node of a chain is 1 more if its class is c.
        noise: features are uniform in (-noise, noise) before that, and in the end divided by
            their sum.
        counts: nodes for training, validation and test, of all chains at random.
        seed: of the noise and the split, which are part of the task and not of a run.

    Raises:
        UserError: a number is impossible; says which.
    """
    nodes = classes * per_class * length
    if min(length, classes, per_class) < 1 or features < classes:
        raise UserError(
            f"chains: length {length}, {classes} classes of {per_class} chains and {features} "
            "features, expected at least 1 of each, and a feature for each class"
        )
    if min(counts) < 1 or sum(counts) > nodes:
        raise UserError(
            f"chains: {' + '.join(map(str, counts))} nodes for training, validation and test, "
            f"expected at least 1 each and no more than the {nodes} there are"
        )
    rng = np.random.RandomState(seed)
    x = rng.uniform(-noise, noise, (classes, per_class, length, features))
    x[:, :, 0, :classes] += np.eye(classes)[:, None]
    order = np.arange(nodes)
    rng.shuffle(order)
    node = np.arange(nodes)
    sources = node[node % length < length - 1]
    graph = Graph(
        nodes,
        sources,
        sources + 1,
        features=row_normalized(x.reshape(nodes, features)),
        labels=np.repeat(np.arange(classes), per_class * length),
        name="chains",
    )
    train, valid, test = np.split(order[: sum(counts)], np.cumsum(counts)[:2])
    splits = {"train": train, "valid": valid, "test": test}
    return transductive(augmented(graph), splits, n_classes=classes)
