"""Sizes of a DEQ transformer language model, and what tells its two published designs apart."""

import dataclasses
from typing import NamedTuple

from jdeq.options import from_data, option
from zoo.settings import ModelConfig


class Design(NamedTuple):
    """How the blocks of a published design are built."""

    affine_norms: bool  # layer norms learn a scale and a bias
    heads_norm: bool  # a layer norm stands between the heads and the output projection
    packed_by_head: bool  # features are (head, q/k/v, width), otherwise (q/k/v, head, width)
    drops_positions: bool  # dropout of the encodings drops positions, otherwise features
    pre_norm_only: bool
    one_block: bool


DESIGNS = {
    "deq_lm": Design(
        affine_norms=True,
        heads_norm=True,
        packed_by_head=True,
        drops_positions=False,
        pre_norm_only=True,
        one_block=False,
    ),
    "deq_seq": Design(
        affine_norms=False,
        heads_norm=False,
        packed_by_head=False,
        drops_positions=True,
        pre_norm_only=False,
        one_block=True,
    ),
}


@dataclasses.dataclass(frozen=True)
class LMConfig(ModelConfig):
    """Sizes of a DEQ transformer.

    Words are numbered by frequency. `cutoffs` (c_1 < c_2 < ...) cut the vocabulary into clusters
    0 ... c_1 - 1, c_1 ... c_2 - 1, and so on up to `n_token`; cluster i has vectors of width
    `d_embed // div_val**i`. With `div_val` 1 all words share one table, the clusters then only
    structure the softmax.

    Args:
        design: "deq_lm", the later design (pre-norm blocks), or "deq_seq", the earlier one
            (one post-norm block).
        n_layer: blocks of the equilibrium function.
        n_head: attention heads, of width `d_model // n_head` each.
        d_model: width D of the state.
        d_inner: inner width of the feed-forward part.
        d_embed: width of the word vectors of the first cluster.
        pre_norm: layer norms before attention and feed-forward, otherwise after.
        cutoffs: where the clusters begin after the first one; empty: no clusters.
        div_val: from cluster to cluster the word vectors get narrower by this factor.
        tied: input and output word vectors are the same parameters.
        tied_projections: clusters whose input and output projections are one array.
        dropout: of embeddings, positions, block outputs and the output; one mask per solve.
        dropatt: of the attention map.
        tgt_len: tokens of a training segment.
        mem_len: positions that training remembers of earlier segments.
        eval_tgt_len, eval_mem_len: the same in evaluation.
        local_size: how many positions, its own included, a token may look at; 0: 1000.
        zero_mean: take the mean over features out of every new state. Without it a pre-norm
            design has the eigenvalue 1 along that mean and no isolated fixed point.
        fan_in: draw initial weights such that every layer, the injection above all, has a unit
            scale at any width. The published N(0, 0.01^2) is made for width 700: in a narrow
            model the injection is so small that all tokens have nearly the same equilibrium.
        explicit: apply the blocks once instead of solving: an ordinary transformer with the
            same parameters.
        remat: recompute attention and feed-forward in the backward pass, to save memory.
        softmax_chunk: tokens whose probabilities are computed at a time, to save memory; 0: all.
        n_token: words in the vocabulary.

    Raises:
        TypeError, ValueError: a setting is impossible; the text names it and its value.
    """

    design: str = option(
        "deq_lm", "the later one (pre-norm) or the earlier one (post-norm)", choices=DESIGNS
    )
    n_layer: int = option(3, "blocks of the equilibrium function", low=1)
    n_head: int = option(10, "attention heads", low=1)
    d_model: int = option(700, "width of the state", low=1)
    d_inner: int = option(14800, "inner width of the feed-forward part", low=1)
    d_embed: int = option(700, "width of the most frequent words' vectors", low=1)
    pre_norm: bool = option(True, "layer norms before, not after, attention and feed-forward")
    cutoffs: tuple[int, ...] = option((20_000, 40_000, 200_000), "where word clusters begin")
    div_val: int = option(4, "how much narrower the vectors of each next cluster are", low=1)
    tied: bool = option(True, "one set of word vectors for input and output")
    tied_projections: tuple[int, ...] = option(
        (1, 2, 3), "clusters whose input and output projections are one array"
    )
    dropout: float = option(0.05, "dropout rate", low=0, below=1)
    dropatt: float = option(0.0, "dropout rate of the attention map", low=0, below=1)
    tgt_len: int = option(150, "tokens of a training segment", low=1)
    mem_len: int = option(150, "positions remembered in training", low=0)
    eval_tgt_len: int = option(150, "tokens of an evaluation segment", low=1, also=("eval",))
    eval_mem_len: int = option(
        150, "positions remembered in evaluation", low=0, also=("eval", "sample")
    )
    local_size: int = option(0, "positions a token may look at, its own included; 0: 1000", low=0)
    zero_mean: bool = option(False, "take the feature mean out of the state (eigenvalue 1)")
    fan_in: bool = option(False, "initial weights scaled to the width, for narrow models")
    explicit: bool = option(False, "ordinary transformer: apply the blocks once, do not solve")
    remat: bool = option(False, "recompute the blocks in the backward pass, to save memory")
    softmax_chunk: int = option(
        0, "tokens per step of the softmax, to save memory; 0: all", low=0, also=("eval",)
    )
    n_token: int = from_data(267_735, low=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.d_model % self.n_head or self.d_model % 2:
            raise ValueError(
                f"d_model must be even and divisible by n_head {self.n_head}, got {self.d_model}"
            )
        if self.traits.one_block and self.n_layer != 1:
            raise ValueError(f"n_layer must be 1 for design {self.design}, got {self.n_layer}")
        if self.traits.pre_norm_only and not self.pre_norm:
            raise ValueError(f"pre_norm must be set for design {self.design}")
        self._check_clusters()

    def _check_clusters(self) -> None:
        ends = (0, *self.cutoffs, self.n_token)
        if any(a >= b for a, b in zip(ends, ends[1:], strict=False)):
            raise ValueError(
                f"cutoffs must ascend between 0 and n_token {self.n_token}, got {self.cutoffs}"
            )
        last = len(self.cutoffs)
        if self.div_val > 1 and self.d_embed // self.div_val**last < 1:
            raise ValueError(
                f"d_embed {self.d_embed} is too small to be divided by div_val {self.div_val} for "
                f"each of {last + 1} clusters"
            )
        if any(not 0 <= i <= last for i in self.tied_projections):
            raise ValueError(
                f"tied_projections must name clusters from 0 to {last}, got {self.tied_projections}"
            )

    @property
    def traits(self) -> Design:
        """What is particular to the design."""
        return DESIGNS[self.design]

    @property
    def clusters(self) -> tuple[tuple[int, int], ...]:
        """First word, and the one after the last, of each cluster."""
        ends = (0, *self.cutoffs, self.n_token)
        return tuple(zip(ends[:-1], ends[1:], strict=True))

    @property
    def n_tables(self) -> int:
        """How many tables of word vectors there are."""
        return 1 if self.div_val == 1 else len(self.clusters)

    def table_of(self, cluster: int) -> int:
        """The table that holds a cluster's words."""
        return 0 if self.div_val == 1 else cluster

    @property
    def projected(self) -> bool:
        """Whether projections lead from the word vectors to the state's width."""
        return self.div_val > 1 or self.d_embed != self.d_model

    @property
    def horizon(self) -> int:
        """How many positions, its own included, a token looks at."""
        return self.local_size or 1000
