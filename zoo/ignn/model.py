"""Implicit graph networks (Gu et al., NeurIPS 2020), all published forms."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

import jdeq
from zoo.errors import UserError
from zoo.ignn.config import IGNNConfig
from zoo.ignn.convolutions import Convolutions
from zoo.ignn.layer import Equation, ImplicitLayer
from zoo.ignn.matrix import torch_linear
from zoo.ignn.propagation import Edges

NORM_EPS = 1e-12  # norms below it count as this, when states are divided by them


class Solved(NamedTuple):
    """A layer's equation, its state (B, N, m), and what the solve said."""

    equation: Equation
    z: Array
    info: jdeq.SolverInfo


class IGNN(nnx.Module):
    """Implicit layers one after the other, each of which sees the whole graph; then a head.

    With `explicit` in the configuration there are graph convolutions in their place, and nothing
    else is different.

    Args:
        config: form and sizes.
        deq: solver, gradient and normalisation of every implicit layer.
        rngs: `params` draws the initial weights.
        param_dtype: of the parameters.

    Raises:
        UserError: intermediate states are asked for.
    """

    def __init__(
        self,
        config: IGNNConfig,
        deq: jdeq.DEQConfig,
        *,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ):
        options: dict[str, Any] = {"rngs": rngs, "param_dtype": param_dtype}
        if deq.n_states > 1 or deq.indexing or deq.sup_gap > 0 or deq.sup_loc:
            raise UserError(
                "n_states, indexing, sup_gap and sup_loc have no effect: a loss on earlier states "
                "is not part of this model"
            )
        self.config = config
        self.deq = deq
        self.layers: Any  # convolutions, or implicit
        if config.explicit:
            self.layers = nnx.List(Convolutions(*n, config, **options) for n in config.layers)
        else:
            self.layers = nnx.List(ImplicitLayer(*n, config, deq, **options) for n in config.layers)
        stacked = config.form == "stack"
        skips = config.layers if stacked else ()
        self.skips = nnx.List(torch_linear(*n, **options) for n in skips)
        width = config.widths[-1]
        self.hidden = torch_linear(width, width, **options) if config.form == "graphs" else None
        self.dropout = nnx.Dropout(config.dropout)
        options["use_bias"] = config.form == "graphs"
        self.last = None if stacked else torch_linear(width, config.n_classes, **options)

    def __call__(
        self,
        x: Array,
        edges: Edges,
        graph: Array | None = None,
        n_graphs: int | None = None,
        *,
        key: Array | None = None,
    ) -> tuple[Array, jdeq.SolverInfo]:
        """Logits, and what the solves of each pack say together.

        Args:
            x: (B, N, p) features of the nodes; (B, N, 0) for those of the identity.
            edges: of the B packs.
            graph: (B, N), the graph in its pack that a node belongs to; `n_graphs` or more: none.
            n_graphs: G of each pack.
            key: for dropout, in training.

        Returns:
            (B, N, n_classes) of nodes or (B, G, n_classes) of graphs; and the statistics.

        Raises:
            ValueError: the features are not as many as the model takes.
        """
        logits, solved = self.forward(x, edges, graph, n_graphs, key=key)
        return logits, self.said(x, solved)

    def forward(
        self,
        x: Array,
        edges: Edges,
        graph: Array | None = None,
        n_graphs: int | None = None,
        *,
        key: Array | None = None,
    ) -> tuple[Array, list[Solved]]:
        """As a call, with all that there is to know of each solve; none where all is explicit."""
        entries = x.shape[-1]
        if entries not in (0, self.config.n_features):
            raise ValueError(f"nodes have {entries} features, expected {self.config.n_features}")
        h, solved = (
            (self._convolved(x, edges), []) if self.config.explicit else self.encode(x, edges)
        )
        return self.decode(h, graph, n_graphs, key=key), solved

    def said(self, x: Array, solved: list[Solved]) -> jdeq.SolverInfo:
        """What the solves of the packs x say together."""
        return worst([each.info for each in solved]) if solved else _nothing(x)

    def jac_loss(self, solved: list[Solved], key: Array) -> Array:
        """The Jacobian penalty as configured, of all layers together: add it to the loss."""
        penalty = jdeq.ConfiguredDEQ(self.deq).jac_loss
        keys = jax.random.split(key, max(len(solved), 1))
        each = [penalty(s.equation, s.z, k) for s, k in zip(solved, keys, strict=False)]
        return sum(each, jnp.zeros(()))

    def encode(self, x: Array, edges: Edges) -> tuple[Array, list[Solved]]:
        """What the head gets (B, N, m), and the solves on the way, first layer first."""
        solved, h = [], x
        for i, layer in enumerate(self.layers):
            equation = layer.equation(h, edges)
            z, info = layer.solve(equation)
            solved.append(Solved(equation, z, info))
            h = self._passed(i, h, z)
        return h, solved

    def joint(self, x: Array, edges: Edges, z: tuple[Array, ...]) -> tuple[Array, ...]:
        """The equilibrium function of all layers together, in evaluation: a state of each.

        Layer i is fed by the state of layer i - 1, whether that is its fixed point or not.
        """
        made, h = [], x
        for i, (layer, state) in enumerate(zip(self.layers, z, strict=True)):
            made.append(layer.equation(h, edges)(state))
            h = self._passed(i, h, state)
        return tuple(made)

    def decode(
        self,
        h: Array,
        graph: Array | None = None,
        n_graphs: int | None = None,
        *,
        key: Array | None = None,
    ) -> Array:
        """Logits of what `encode` returns."""
        if self.last is None:
            return h
        if self.hidden is not None:
            h = jax.nn.relu(self.hidden(summed(h, graph, n_graphs)))
        elif self.config.row_norm:
            h = _normalised(h)
        return self.last(self.dropout(h, rngs=key))

    def _convolved(self, x: Array, edges: Edges) -> Array:
        h = x
        for i, layer in enumerate(self.layers):
            h = self._passed(i, h, layer(h, edges))
        return h

    def _passed(self, i: int, h: Array, z: Array) -> Array:
        """The features of the layer after the i-th, which has made z of h."""
        if not len(self.skips):
            return z
        z = z + self.skips[i](h)
        return z if i == len(self.layers) - 1 else jax.nn.elu(z)


def summed(h: Array, graph: Array | None, n_graphs: int | None) -> Array:
    """The sum over the nodes of each graph: h (B, N, m), graph (B, N) -> (B, G, m).

    Nodes of a graph `n_graphs` or beyond belong to none.
    """
    if graph is None or n_graphs is None:
        raise ValueError("a model of graphs must know which node belongs to which: give `graph`")
    return jax.vmap(lambda h, graph: jax.ops.segment_sum(h, graph, n_graphs))(h, graph)


def worst(infos: list[jdeq.SolverInfo]) -> jdeq.SolverInfo:
    """What several solves of the same packs say together: each entry is that of the worst one."""
    made = {
        name: jnp.max(jnp.stack([getattr(info, name) for info in infos]), 0)
        for name in jdeq.SolverInfo._fields
        if name not in ("nfe", "states")
    }
    return jdeq.SolverInfo(**made, nfe=jnp.sum(jnp.stack([info.nfe for info in infos])), states=())


def _nothing(x: Array) -> jdeq.SolverInfo:
    """Of packs for which nothing is solved."""
    zero = jnp.zeros(len(x), jnp.float32)
    converged = zero.astype(jnp.int32) + jdeq.Status.CONVERGED
    trace = jnp.zeros((len(x), 0), jnp.float32)
    return jdeq.SolverInfo(
        zero, zero, converged, jnp.int32(0), converged, converged, trace, trace, ()
    )


def _normalised(h: Array) -> Array:
    """Rows of length 1; one of zeros stays, with a finite gradient."""
    square = jnp.sum(jnp.square(h), -1, keepdims=True)
    zero = square == 0
    norm = jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)))
    return h / jnp.maximum(norm, NORM_EPS)
