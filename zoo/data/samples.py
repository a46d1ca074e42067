"""Independent samples in memory."""

import dataclasses
from collections.abc import Collection, Iterator

import numpy as np

from zoo.data.augmentation import Augmentation
from zoo.data.split import Batch
from zoo.errors import UserError


@dataclasses.dataclass(frozen=True)
class Samples:
    """A split (`zoo.data.split.Split`) of independent samples.

    Args:
        arrays: by name, with the sample axis first.
        augment: changes training batches at random.
        whole: arrays without it, which every batch has as they are.
    """

    arrays: Batch
    augment: Augmentation | None = None
    whole: Batch = dataclasses.field(default_factory=dict)

    @property
    def shared(self) -> Collection[str]:
        """The names of the arrays that belong to all samples."""
        return self.whole.keys()

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def check_batch_size(self, batch_size: int) -> None:
        """Raises UserError if there are fewer samples than a batch holds."""
        if batch_size > len(self):
            raise UserError(
                f"batch_size {batch_size} is more than the {len(self)} training samples"
            )

    def train_batches(
        self, batch_size: int, *, seed: int, start: int, stop: int, rows: slice = slice(None)
    ) -> Iterator[Batch]:
        """The batches of steps `start` to `stop - 1`; batch k is the same whatever `start` is.

        Every epoch is shuffled anew; a last incomplete batch is left out. With `rows`, only these
        rows of each batch are read, and they are what they are in the whole batch.

        Raises:
            UserError: there are fewer samples than a batch holds.
        """
        import grain  # slow to import

        self.check_batch_size(batch_size)

        def gather(index: np.ndarray, rng: np.random.Generator) -> Batch:
            batch = {name: array[index[rows]] for name, array in self.arrays.items()}
            if self.augment is not None:
                batch = self.augment.apply(batch, self.augment.draw(rng, batch_size)[rows])
            return {**batch, **self.whole}

        batches = (
            grain.MapDataset.range(len(self))
            .seed(seed)
            .shuffle()
            .batch(batch_size, drop_remainder=True)
            .repeat()
            .random_map(gather)
        )
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
        return iter(batches[start:stop].to_iter_dataset(options))

    def eval_batches(self, batch_size: int) -> Iterator[tuple[Batch, np.ndarray]]:
        """All samples in order, as (batch, weights (B,)).

        The last batch is filled up with copies of the first sample, which have weight 0.
        """
        n = len(self)
        batch_size = min(batch_size, n)
        for start in range(0, n, batch_size):
            index = np.arange(start, start + batch_size)
            batch = {k: array[np.where(index < n, index, 0)] for k, array in self.arrays.items()}
            yield {**batch, **self.whole}, (index < n).astype(np.float32)
