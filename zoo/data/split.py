"""What the trainer asks of data: splits that come as batches."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Protocol, TypeVar

import numpy as np

A = TypeVar("A")
Batch = Mapping[str, np.ndarray]


class Split(Protocol):
    """One part of a data set, as batches: `zoo.data` has independent samples and streams.

    The rows of a batch are independent of each other; what is not, as the nodes of one graph, is
    in one row, and has weights of its own, like the tokens of a text.

    Attributes:
        shared: entries of a batch without rows, which belong to all of them: an edge list,
            coordinates, an image of which each row is a pixel. Those without axes need not be
            named. All other entries are (B, ...), cut into rows wherever a batch is cut.
    """

    @property
    def shared(self) -> Collection[str]: ...

    def check_batch_size(self, batch_size: int) -> None:
        """Raises `UserError` if there is not enough for one training batch."""
        ...

    def train_batches(
        self, batch_size: int, *, seed: int, start: int, stop: int, rows: slice = slice(None)
    ) -> Iterator[Batch]:
        """The batches of steps `start` to `stop - 1`, each given by the seed and its step alone.

        With `rows`, only these rows of them are read: another process reads the others.
        """
        ...

    def eval_batches(self, batch_size: int) -> Iterator[tuple[Batch, np.ndarray]]:
        """The whole split in order, each batch with its weights.

        Weights (B,), or (B, L) for sequences, are 1 for what counts and 0 for what fills up.
        Batches may have a few different shapes, each of which is compiled once; where a model
        carries something from one to the next, they all have as many rows.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Data:
    """The splits of a data set, and what the model must know of it.

    Args:
        train, test: what to learn from, and what the result is measured on.
        valid: what a run is watched on while it trains; `test` if there is none.
        sizes: fields of the model's configuration that follow from the data.
        meta: what the parameters are of no use without (a vocabulary), as plain values for
            JSON; saved with every checkpoint.
    """

    train: Split
    test: Split
    valid: Split | None = None
    sizes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def parted(batch: Mapping[str, A], shared: Collection[str]) -> tuple[dict[str, A], dict[str, A]]:
    """The entries of a batch that have rows, and those that all rows share.

    Example:
        >>> batch = {"x": np.ones((4, 3)), "edges": np.ones((2, 9)), "fresh": np.asarray(True)}
        >>> [list(part) for part in parted(batch, ("edges",))]
        [['x'], ['edges', 'fresh']]
    """
    rows = {k: a for k, a in batch.items() if k not in shared and np.ndim(a)}  # pyright: ignore
    return rows, {k: a for k, a in batch.items() if k not in rows}
