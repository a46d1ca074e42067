"""The 8x8 digits that ship with scikit-learn (1797 real scans, UCI)."""

import numpy as np

from zoo.data.samples import Samples
from zoo.data.split import Data

SPLIT_SEED = 0  # fixed: the split is part of the task, not of a run


def digits() -> Data:
    """Stratified 80/20 split; `x` float32 (N, 8, 8, 1) standardised, `y` int32 (N,)."""
    from sklearn.datasets import load_digits  # slow to import
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    x = images.reshape(-1, 8, 8, 1).astype(np.float32) / 16
    y = labels.astype(np.int32)
    train, test = train_test_split(
        np.arange(len(y)), test_size=0.2, stratify=y, random_state=SPLIT_SEED
    )
    x = (x - x[train].mean()) / x[train].std()
    part = lambda index: Samples({"x": x[index], "y": y[index]})
    return Data(train=part(train), test=part(test))
