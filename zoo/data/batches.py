"""Batches whose content depends on the seed and the step alone."""

from collections.abc import Iterator

import grain
import numpy as np

from zoo.errors import UserError
from zoo.task import Batch, Data


def train_batches(
    data: Data, *, batch_size: int, seed: int, start: int, stop: int
) -> Iterator[Batch]:
    """The training batches of steps `start` to `stop - 1`.

    Every epoch is shuffled anew; a last incomplete batch is left out. Batch k is the same
    whatever `start` is, so a resumed run continues with the batches it would have seen.

    Raises:
        UserError: there are fewer samples than a batch holds.
    """
    check_batch_size(data, batch_size)
    arrays, augment = data.train, data.augment

    def gather(index: np.ndarray, rng: np.random.Generator) -> Batch:
        batch = {name: array[index] for name, array in arrays.items()}
        return batch if augment is None else augment(batch, rng)

    batches = (
        grain.MapDataset.range(_size(arrays))
        .seed(seed)
        .shuffle()
        .batch(batch_size, drop_remainder=True)
        .repeat()
        .random_map(gather)
    )
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
    return iter(batches[start:stop].to_iter_dataset(options))


def check_batch_size(data: Data, batch_size: int) -> None:
    """Raises UserError if there are fewer training samples than a batch holds."""
    n = _size(data.train)
    if batch_size > n:
        raise UserError(f"batch_size {batch_size} is more than the {n} training samples")


def eval_batches(arrays: Batch, batch_size: int) -> Iterator[tuple[Batch, int]]:
    """All samples in order, as (batch, how many of its samples count).

    Every batch has the same size, so that nothing is compiled twice: the last one is filled up
    with copies of the first sample.
    """
    n = _size(arrays)
    batch_size = min(batch_size, n)
    for start in range(0, n, batch_size):
        index = np.arange(start, start + batch_size)
        yield (
            {name: array[np.where(index < n, index, 0)] for name, array in arrays.items()},
            min(batch_size, n - start),
        )


def _size(arrays: Batch) -> int:
    return len(next(iter(arrays.values())))
