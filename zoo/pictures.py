"""Images of a test split, and what a model makes of them."""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Some images (N, H, W, 1 or 3), in any units, with the texts of what is right and what was
    predicted for each.
    """

    images: np.ndarray
    true: Sequence[str]
    predicted: Sequence[str]
