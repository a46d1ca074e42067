"""A long sequence of tokens, cut into segments that follow each other."""

import dataclasses
from collections.abc import Collection, Iterator

import numpy as np

from zoo.data.split import Batch
from zoo.errors import UserError


@dataclasses.dataclass(frozen=True)
class Streams:
    """A split (`zoo.data.split.Split`) of one sequence, read as B parallel streams.

    Row b of a batch goes on, in the next batch, where it ended in this one: what a model
    remembers of a row stays valid from batch to batch. A batch holds

    * `x` (B, length) int32, tokens,
    * `y` (B, length) int32, the token after each of them,
    * `fresh` () bool, whether a new pass over the data begins: memory must be dropped.

    Args:
        tokens: (N,) int32.
        length: tokens per segment.
    """

    tokens: np.ndarray
    length: int

    @property
    def shared(self) -> Collection[str]:
        """A new pass begins for all streams at once."""
        return ("fresh",)

    def check_batch_size(self, batch_size: int) -> None:
        """Raises UserError if the sequence is too short for one segment of every stream."""
        if self._segments(batch_size) < 1:
            raise UserError(
                f"batch_size {batch_size} with segments of {self.length} tokens needs at least "
                f"{(batch_size + 1) * self.length} tokens; there are {len(self.tokens)}"
            )

    def train_batches(
        self, batch_size: int, *, seed: int, start: int, stop: int, rows: slice = slice(None)
    ) -> Iterator[Batch]:
        """The batches of steps `start` to `stop - 1`; batch k is the same whatever `start` is.

        Every pass starts up to `length - 1` tokens later, so that the cuts between segments
        change; what does not fill a segment at the end is left out. With `rows`, only these
        streams are read.

        Raises:
            UserError: the sequence is too short for one segment of every stream.
        """
        self.check_batch_size(batch_size)
        streams = np.arange(batch_size)[rows, None]
        return self._train_batches(self._segments(batch_size), streams, seed, start, stop)

    def _train_batches(
        self, segments: int, streams: np.ndarray, seed: int, start: int, stop: int
    ) -> Iterator[Batch]:
        starts = segments * self.length * streams
        for step in range(start, stop):
            number, segment = divmod(step, segments)
            offset = np.random.default_rng((seed, number)).integers(self.length)
            index = offset + starts + segment * self.length + np.arange(self.length)
            yield self._batch(index, fresh=segment == 0)

    def eval_batches(self, batch_size: int) -> Iterator[tuple[Batch, np.ndarray]]:
        """Every token but the first is predicted once, as (batch, weights (B, length)).

        Each stream is one part of the sequence, the first part in the first row; weights are 0
        beyond its end.
        """
        n = len(self.tokens) - 1
        batch_size = min(batch_size, n)
        part = -(-n // batch_size)
        starts = part * np.arange(batch_size)[:, None]
        for begin in range(0, part, self.length):
            position = begin + np.arange(self.length)
            index = starts + position
            weights = (position < part) & (index < n)
            yield (
                self._batch(np.minimum(index, n - 1), fresh=begin == 0),
                weights.astype(np.float32),
            )

    def _segments(self, batch_size: int) -> int:
        """Segments of each stream in one pass, for every offset up to `length - 1`."""
        return (len(self.tokens) - self.length) // (batch_size * self.length)

    def _batch(self, index: np.ndarray, *, fresh: bool) -> Batch:
        return {"x": self.tokens[index], "y": self.tokens[index + 1], "fresh": np.asarray(fresh)}
