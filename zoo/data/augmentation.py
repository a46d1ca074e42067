"""Random changes of training batches."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from zoo.data.split import Batch


class Augmentation(NamedTuple):
    """A random change in two parts, so that a part of a batch is changed as in the whole one.

    Attributes:
        draw: `draw(rng, n)` -> (n, ...), the random numbers of n samples.
        apply: `apply(batch, drawn)` -> the changed batch; each row by its own numbers.
    """

    draw: Callable[[np.random.Generator, int], np.ndarray]
    apply: Callable[[Batch, np.ndarray], Batch]

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """A whole batch, changed."""
        return self.apply(batch, self.draw(rng, len(next(iter(batch.values())))))
