"""Sizes of an implicit graph network, of all its published forms."""

import dataclasses
from typing import Literal

from jdeq.options import from_data, option
from zoo.settings import ModelConfig


@dataclasses.dataclass(frozen=True)
class IGNNConfig(ModelConfig):
    """Sizes of an IGNN.

    Args:
        form: what stands around the implicit layers.

            * "nodes" (chains, Amazon): dropout and a linear head without bias.
            * "stack" (PPI): a linear skip past every layer and an ELU between them; one more
              implicit layer, as wide as there are classes, takes the place of a head.
            * "graphs": the nodes' states are summed for each graph; then two linear layers with
              ReLU and dropout between them.
        widths: features of each implicit layer.
        kappa: `||W||_inf` is at most `kappa / rho(|A|)`; below 1 there is exactly one equilibrium,
            to which plain iteration converges. None: W is not projected.
        w_init: W is drawn as in the original, or begins as the identity: then information travels
            as far as kappa allows from the first step on. A W of random signs carries so little
            of it from node to node that beyond some tens of them nothing arrives.
        dropout: before the last linear layer.
        row_norm: divide every node's state by its 2-norm before a head of nodes.
        explicit: graph convolutions in place of each implicit layer, of its width: an ordinary GCN.
            0: the equilibrium.
        chain_length: nodes of a chain, for the data "chains".
        fold: which of the ten folds of a data set of graphs is the test set, 0 to 9.
        graphs_per_pack: graphs of a pack, which is one sample to the solver, and on one device;
            for data sets of graphs.
        n_features: of each node.
        n_classes: classes or labels.
        n_nodes: of the one graph of a data set that has one; 0: of several graphs.
        keeps_start: solves of form "nodes" begin at an array `X_0` (n_nodes, m) that belongs to the
            weights, is never trained, and is zero unless it comes from the original.
        labels: a node or graph has one "class"; or "any" of several labels; of "top" it is known
            how many it has, and the best so many are predicted.
        channel_samples: the solver's samples are feature channels, and it stops when the original
            does. For comparisons with it, of one graph.

    Raises:
        TypeError, ValueError: a setting is impossible; the text names it and its value.
    """

    form: Literal["nodes", "stack", "graphs"] = option(
        "nodes", "one implicit layer and a head, several with skips, or sums over graphs"
    )
    widths: tuple[int, ...] = option((16,), "features of each implicit layer", low=1)
    kappa: float | None = option(
        0.9, "of the bound kappa / rho for the largest row sum of |W|; none: no bound", low=0
    )
    w_init: Literal["uniform", "identity"] = option("uniform", "how W begins")
    dropout: float = option(0.5, "dropout rate before the last linear layer", low=0, below=1)
    row_norm: bool = option(False, "divide nodes' states by their norms, before a head of nodes")
    explicit: int = option(
        0, "graph convolutions instead of each implicit layer, an ordinary GCN; 0: none", low=0
    )
    chain_length: int = option(10, "nodes of a chain, for data that are chains", low=1)
    fold: int = option(0, "fold that is the test set, for data that are graphs", low=0, high=9)
    graphs_per_pack: int = option(32, "graphs that are one sample to the solver", low=1)
    n_features: int = from_data(100, low=1)
    n_classes: int = from_data(2, low=1)
    n_nodes: int = from_data(0, low=0)
    keeps_start: bool = from_data(False)
    labels: Literal["class", "any", "top"] = from_data("class")
    channel_samples: bool = from_data(False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.widths:
            raise ValueError("widths must name at least one implicit layer")
        if self.form == "stack" and self.dropout:
            raise ValueError(f"dropout must be 0 for form 'stack', got {self.dropout}")
        if self.row_norm and self.form != "nodes":
            raise ValueError(f"row_norm is for form 'nodes', not {self.form!r}")
        if self.form == "graphs" and self.labels != "class":
            raise ValueError(f"labels must be 'class' for form 'graphs', got {self.labels!r}")

    @property
    def layers(self) -> tuple[tuple[int, int], ...]:
        """Features that come in and go out, of each implicit layer."""
        out = self.widths + (self.n_classes,) * (self.form == "stack")
        return tuple(zip((self.n_features, *out), out, strict=False))

    @property
    def looks_at_itself(self) -> bool:
        """Whether a node's own features are injected, and not those of its neighbours alone."""
        return self.form != "graphs"

    @property
    def starts_at_zero(self) -> bool:
        """Whether solves begin at zero, or at `X_0`; otherwise at what is injected."""
        return self.form == "nodes"

    @property
    def measures(self) -> bool:
        """Whether the bound depends on each graph's spectral radius, or takes that for 1."""
        return self.form != "graphs"
