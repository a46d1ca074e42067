"""A sum of waves, to be learnt from some of its points."""

import numpy as np

from zoo.data.samples import Samples
from zoo.data.split import Data


def waves(n: int = 256) -> Data:
    """`t` (n, 1) in [-1, 1] and `y` (n, 1); every fourth point is held back."""
    t = np.linspace(-1, 1, n, dtype=np.float32)[:, None]
    y = 0.5 * np.sin(4 * t) + 0.25 * np.cos(9 * t)
    held = np.arange(n) % 4 == 0
    split = lambda rows: Samples({"t": t[rows], "y": y[rows]})
    return Data(split(~held), test=split(held))
