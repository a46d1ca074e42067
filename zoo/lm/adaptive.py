"""Word vectors of clusters of words, going in (embedding) and coming out (softmax)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jax.typing import DTypeLike

from zoo.devices.axes import named
from zoo.lm.config import LMConfig
from zoo.lm.layers import projection_init, vector_init
from zoo.precision import wide


class AdaptiveVocabulary(nnx.Module):
    """Adaptive input and output representations of words, as the configuration ties them.

    A frequent word has a wide vector and a rare one a narrow one; a projection per cluster leads
    to the model's width D and another one back. The softmax is in two stages: the first cluster's
    words compete with one entry per other cluster, whose words compete among themselves.

    Where an input and an output projection are one array (`tied_projections`), they are still two
    parameters, each with its own gradient and its own optimiser state: an optimiser moves the
    array by both of their updates. `in_projections` holds the array at the start, `out_projections`
    zeros, and the array is the sum of them.

    Args:
        config: sizes.
        rngs: `params` draws the initial weights.
        param_dtype: dtype of the parameters.

    Attributes:
        tables: word vectors (words, width): per cluster, or one for all with `div_val` 1.
        in_projections: (width, D) per table; none if the width is D and all clusters have it.
        out_projections: (width, D) per cluster; likewise.
        out_tables: word vectors of the output, if they are not those of the input.
        biases: (words,) per table.
        cluster_weight, cluster_bias: (clusters - 1, width), (clusters - 1,): the other clusters'
            entries in the first stage, in *reverse* order, as in the original.

    Source: Baevski, Auli, *Adaptive Input Representations* (2019); Grave et al., *Efficient
    softmax approximation for GPUs* (2017).
    """

    def __init__(self, config: LMConfig, *, rngs: nnx.Rngs, param_dtype: DTypeLike = jnp.float32):
        self.config = config
        n, d = len(config.clusters), config.d_model
        widths = [config.d_embed // config.div_val**i for i in range(n)]
        if config.n_tables == 1:
            shapes = [(config.n_token, config.d_embed)]
        else:
            shapes = [
                (end - start, w) for (start, end), w in zip(config.clusters, widths, strict=True)
            ]
        self.tied_projections = config.tied_projections if config.projected else ()

        def vectors(*shape: int, **metadata: Any) -> nnx.Param:
            return nnx.Param(vector_init(config)(rngs.params(), shape, param_dtype), **metadata)

        def kernel(*shape: int) -> nnx.Param:
            return nnx.Param(projection_init(config)(rngs.params(), shape, param_dtype))

        def zeros(*shape: int, **metadata: Any) -> nnx.Param:
            return nnx.Param(jnp.zeros(shape, param_dtype), **metadata)

        def word_vectors() -> nnx.List[nnx.Param]:
            return nnx.List(vectors(*shape, **named("vocab", "embed")) for shape in shapes)

        def projections(n: int, tied: tuple[int, ...]) -> nnx.List[nnx.Param]:
            make = lambda i: (zeros if i in tied else kernel)(widths[i], d)
            return nnx.List(make(i) for i in range(n if config.projected else 0))

        self.tables = word_vectors()
        self.in_projections = projections(config.n_tables, ())
        self.out_projections = projections(n, self.tied_projections)
        self.out_tables = None if config.tied else word_vectors()
        self.biases = nnx.List(zeros(words, **named("vocab")) for words, _ in shapes)
        self.cluster_weight = vectors(n - 1, config.d_embed) if n > 1 else None
        self.cluster_bias = zeros(n - 1) if n > 1 else None

    def embed(self, tokens: Array) -> Array:
        """Tokens (...) -> vectors (..., D), times the square root of D."""
        scale = self.config.d_model**0.5
        if self.config.n_tables == 1:
            vectors = self.tables[0][...][tokens]
            return scale * (vectors @ self._in_projection(0) if self.in_projections else vectors)
        total = jnp.zeros((*tokens.shape, self.config.d_model), self.tables[0].dtype)
        for i, (start, end) in enumerate(self.config.clusters):
            vectors = self.tables[i][...][jnp.clip(tokens - start, 0, end - start - 1)]
            inside = (tokens >= start) & (tokens < end)
            total = jnp.where(inside[..., None], vectors @ self._in_projection(i), total)
        return scale * total

    def nll(self, hidden: Array, targets: Array) -> Array:
        """Negative log probability (...) of `targets` (...) after `hidden` (..., D)."""
        flat = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
        if self.config.softmax_chunk:
            # recomputed in the backward pass: the logits of all words are what takes the space
            one = jax.checkpoint(self._nll)
            nll = lax.map(lambda pair: one(*pair), flat, batch_size=self.config.softmax_chunk)
        else:
            nll = self._nll(*flat)
        return nll.reshape(targets.shape)

    def log_probs(self, hidden: Array) -> Array:
        """Log probabilities (..., n_token) of all words after `hidden` (..., D)."""
        head = jax.nn.log_softmax(self._logits(0, hidden))
        tails = (
            head[..., -i, None] + jax.nn.log_softmax(self._logits(i, hidden))
            for i in range(1, len(self.config.clusters))
        )
        return jnp.concatenate([head[..., : self.config.clusters[0][1]], *tails], axis=-1)

    def projection(self, table: int) -> Array:
        """The array (width, D) that leads from a table to the model, and back where it is tied."""
        array = self.in_projections[table][...]
        for i in self.tied_projections:
            if self.config.table_of(i) == table:
                array = array + self.out_projections[i][...]
        return array

    def split_tied(self) -> None:
        """Turns tied projections that each hold the whole array into summands of it, in place."""
        for i in self.tied_projections:
            variable = self.out_projections[i]
            variable[...] = jnp.zeros_like(variable[...])

    def merge_tied(self) -> None:
        """The inverse, as far as `in_projections` go: each holds the whole array."""
        for table, variable in enumerate(self.in_projections):
            variable[...] = self.projection(table)

    def _nll(self, hidden: Array, targets: Array) -> Array:
        (_, end), *tails = self.config.clusters
        head = jax.nn.log_softmax(self._logits(0, hidden))
        log_prob = _entry(head, jnp.minimum(targets, end - 1))
        for i, (start, end) in enumerate(tails, start=1):
            tail = jax.nn.log_softmax(self._logits(i, hidden))
            inside = head[..., -i] + _entry(tail, jnp.clip(targets - start, 0, end - start - 1))
            log_prob = jnp.where((targets >= start) & (targets < end), inside, log_prob)
        return -log_prob

    def _logits(self, i: int, hidden: Array) -> Array:
        """(..., words of cluster i), for the first one followed by the other clusters."""
        table, bias = self._cluster_table(i)
        if i == 0 and self.cluster_weight is not None and self.cluster_bias is not None:
            table = jnp.concatenate([table, self.cluster_weight[...]])
            bias = jnp.concatenate([bias, self.cluster_bias[...]])
        if self.out_projections:
            hidden = hidden @ self._out_projection(i).T
        logits = wide(hidden @ table.T)
        return logits + wide(bias).reshape((1,) * (logits.ndim - 1) + (-1,))

    def _cluster_table(self, i: int) -> tuple[Array, Array]:
        tables = self.tables if self.out_tables is None else self.out_tables
        if self.config.n_tables > 1:
            return tables[i][...], self.biases[i][...]
        start, end = self.config.clusters[i]
        return tables[0][start:end], self.biases[0][start:end]

    def _in_projection(self, table: int) -> Array:
        return _credited(self.projection(table), self.in_projections[table][...])

    def _out_projection(self, cluster: int) -> Array:
        own = self.out_projections[cluster][...]
        if cluster not in self.tied_projections:
            return own
        return _credited(self.projection(self.config.table_of(cluster)), own)


def _entry(values: Array, index: Array) -> Array:
    """Entries (...) at `index` (...) of the last axis of `values` (..., n)."""
    return jnp.take_along_axis(values, index[..., None], axis=-1)[..., 0]


def _credited(array: Array, summand: Array) -> Array:
    """`array`, exactly, with its gradient going to one `summand` of it alone."""
    return lax.stop_gradient(array) + (summand - lax.stop_gradient(summand))
