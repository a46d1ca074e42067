"""Cross validation of graph classification."""

import dataclasses

import numpy as np

from zoo.data.split import Data
from zoo.errors import UserError
from zoo.ignn.graph import Graph
from zoo.ignn.packs import Packs


def stratified(
    graphs: list[Graph], classes: np.ndarray, *, fold: int, folds: int, seed: int, per_pack: int
) -> Data:
    """One fold for the test, the others for training; all have the classes in like shares.

    Args:
        graphs: without labels.
        classes: (G,), their classes, from 0.
        fold, folds: the number of the fold, from 0, and how many there are.
        seed: of the folds, which are part of the task and not of a run.
        per_pack: graphs of a pack.

    Raises:
        UserError: there is no such fold, or a class has fewer graphs than there are folds.
    """
    from sklearn.model_selection import StratifiedKFold  # slow to import

    name = graphs[0].name if graphs else "graphs"
    counts = np.bincount(classes)
    if not 0 <= fold < folds or folds < 2:
        raise UserError(f"fold {fold} of {folds}, expected 0 to {folds - 1} of at least 2")
    if not graphs or counts.min() < folds:
        rarest = int(np.argmin(counts)) if graphs else 0
        raise UserError(
            f"{name}: class {rarest} has {counts.min(initial=len(graphs))} graphs, expected at "
            f"least {folds}, one for each fold"
        )
    graphs = [
        dataclasses.replace(graph, labels=np.asarray(label))
        for graph, label in zip(graphs, classes, strict=True)
    ]
    cut = StratifiedKFold(folds, shuffle=True, random_state=seed)
    train, test = list(cut.split(np.zeros(len(classes)), classes))[fold]
    part = lambda index: Packs([graphs[i] for i in index], per_pack=per_pack)
    sizes = {"n_features": graphs[0].n_features, "n_classes": len(counts)}
    return Data(part(train), part(test), sizes=sizes)
