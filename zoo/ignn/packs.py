"""Packs of graphs, as the batches that a trainer asks for."""

import functools
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from zoo.data.split import Batch
from zoo.errors import UserError
from zoo.ignn.buckets import buckets, smallest
from zoo.ignn.graph import Graph
from zoo.ignn.packing import Level, Packing


class Packs:
    """A split (`zoo.data.split.Split`) of graphs; one row is a pack of G of them.

    A pack is one graph to the model, block-diagonal, and one sample to the solver. Those of a
    batch are padded to N nodes and E edges, for which there are few possibilities (`buckets`). A
    batch of B packs holds

    * `x` (B, N, p) float32, features, 0 for padding; (B, N, 0) if they are those of the identity,
      which is for a split of one graph: its N is the number of its nodes,
    * `sources`, `targets` (B, E) int32, `weights` (B, E) float32, edges; padding has weight 0 and
      ends 0, and comes first: targets that ascend in every graph ascend in the row,
    * `rho` (B,) float32, the spectral radius of |A|, which is the largest of those of the graphs,
    * `y` (B, N) int32, classes of nodes, or (B, N, L) float32, their labels, or (B, G) int32,
      classes of graphs; 0 where they are unknown,
    * `mask` (B, N) or (B, G) float32, 1 for nodes, or graphs, that count,
    * `graph` (B, N) int32, only where graphs are classified: which one of its pack a node is in;
      G for padding.

    Args:
        graphs: all alike, in what their nodes and labels have.
        masks: which nodes count, (N,) of each graph; never those whose label is unknown.
        per_pack: G.
        level: whether nodes or graphs are classified; by default, what has labels.

    Raises:
        UserError: there are no graphs, or they do not go together.
    """

    def __init__(
        self,
        graphs: Sequence[Graph],
        masks: Sequence[np.ndarray] | None = None,
        *,
        per_pack: int = 1,
        level: Level | None = None,
    ):
        if not graphs:
            raise UserError("there are no graphs")
        self.per_pack = per_pack
        self._packing = Packing(graphs, masks, level)
        self.buckets = buckets(self._packing.n_nodes, self._packing.n_edges, per_pack)

    def __len__(self) -> int:
        """How many graphs there are."""
        return len(self._packing)

    @property
    def shared(self) -> Collection[str]:
        """Nothing: every pack has its own edges."""
        return ()

    def check_batch_size(self, batch_size: int) -> None:
        """Raises UserError if there are fewer graphs than a batch holds."""
        if batch_size * self.per_pack > len(self):
            raise UserError(
                f"batch_size {batch_size} of packs of {self.per_pack} graphs is more than the "
                f"{len(self)} training graphs"
            )

    def train_batches(
        self, batch_size: int, *, seed: int, start: int, stop: int, rows: slice = slice(None)
    ) -> Iterator[Batch]:
        """The batches of steps `start` to `stop - 1`; batch k is the same whatever `start` is.

        Every epoch is shuffled anew; a last incomplete batch is left out. The graphs of a batch
        are dealt to its packs such that these are about as large. With `rows`, only these rows of
        each batch are made, and they are what they are in the whole batch.

        Raises:
            UserError: there are fewer graphs than a batch holds.
        """
        self.check_batch_size(batch_size)
        return self._train_batches(batch_size, seed, start, stop, rows)

    def _train_batches(
        self, batch_size: int, seed: int, start: int, stop: int, rows: slice
    ) -> Iterator[Batch]:
        graphs = batch_size * self.per_pack
        per_epoch = len(self) // graphs
        order, shuffled = np.zeros(0, np.int64), -1
        for step in range(start, stop):
            epoch, number = divmod(step, per_epoch)
            if epoch != shuffled:
                order = np.random.default_rng((seed, epoch)).permutation(len(self))
                shuffled = epoch
            index = order[number * graphs : (number + 1) * graphs]
            yield self._batch(self._packing.dealt(index, batch_size), rows)

    def eval_batches(self, batch_size: int) -> Iterator[tuple[Batch, np.ndarray]]:
        """All graphs in order, as (batch, weights (B, N) or (B, G)), which are the mask.

        The last batch is filled up with copies of the first pack, which have weight 0.
        """
        packs = -(-len(self) // self.per_pack)
        batch_size = min(batch_size, packs)
        index = np.full(packs * self.per_pack, -1)
        index[: len(self)] = np.arange(len(self))
        index = index.reshape(packs, self.per_pack)
        for begin in range(0, packs, batch_size):
            pack = np.arange(begin, begin + batch_size)
            batch = self._batch(index[np.where(pack < packs, pack, 0)])
            mask = batch["mask"] * (pack < packs)[:, None].astype(np.float32)
            yield {**batch, "mask": mask}, mask

    def _batch(self, index: np.ndarray, rows: slice = slice(None)) -> Batch:
        """Of the graphs (B, G); what it is padded to depends on all of its rows."""
        if len(self) == 1:
            return self._only
        bucket = smallest(self.buckets, *self._packing.sizes(index))
        return self._packing.rows(index[rows], bucket)

    @functools.cached_property
    def _only(self) -> Batch:
        """The batch of a split of one graph; made once, as it may be large."""
        return self._packing.rows(np.zeros((1, 1), np.int64), self.buckets[-1])
