"""DEQ transformer language model (Bai, Kolter, Koltun, *Deep Equilibrium Models*, 2019)."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

import jdeq
from zoo.devices.axes import named_layer
from zoo.lm.adaptive import AdaptiveVocabulary
from zoo.lm.block import Blocks, Context
from zoo.lm.config import LMConfig
from zoo.lm.layers import projection_init
from zoo.lm.memory import Memory
from zoo.lm.positions import Positions, visible

IO_DROPOUT = 3  # folded into a call's key; the DEQ layer folds in other numbers


class IODropout(nnx.Module):
    """Dropout around the solve: features of the embedding, of the encodings, and whole tokens."""

    def __init__(self, config: LMConfig, *, rngs: nnx.Rngs):
        whole = config.traits.drops_positions
        encodings = jdeq.nn.VariationalDropToken1d if whole else jdeq.nn.VariationalDropout1d
        self.embedding = jdeq.nn.VariationalDropout1d(config.dropout, rngs=rngs)
        self.encodings = encodings(config.dropout, rngs=rngs)
        self.output = jdeq.nn.VariationalDropToken1d(config.dropout, rngs=rngs)


class LanguageModel(nnx.Module):
    """Words -> injection -> equilibrium of `Blocks`, with memory -> word probabilities.

    The kernels of the equilibrium function are normalised once per call as `deq.norm_type` says.

    Args:
        config: sizes. With `explicit`, only the normalisation of `deq` counts.
        deq: solver, gradient and normalisation of the equilibrium.
        rngs: `params` draws the initial weights, `dropout` the first masks.
        param_dtype: dtype of all parameters.
    """

    def __init__(
        self,
        config: LMConfig,
        deq: jdeq.DEQConfig,
        *,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ):
        options = {"rngs": rngs, "param_dtype": param_dtype}
        self.config = config
        self.vocabulary = AdaptiveVocabulary(config, **options)
        self.positions = Positions(config.d_model, param_dtype=param_dtype)
        self.injection = nnx.Linear(
            config.d_model,
            3 * config.d_model,
            kernel_init=projection_init(config),
            **named_layer("embed", "heads"),
            **options,
        )
        self.dropout = IODropout(config, rngs=rngs)
        self.equilibrium = jdeq.nn.DEQ(
            Blocks(config, **options), config=deq.without_solver() if config.explicit else deq
        )

    def __call__(
        self, tokens: Array, memory: Memory, *, key: Array | None = None
    ) -> tuple[Array, jdeq.SolverInfo, Memory]:
        """Reads one segment.

        Args:
            tokens: (B, L) int.
            memory: of the segments before, with any room for positions; `Memory.empty` at first.
            key: of the dropout masks; needed in training if there is dropout.

        Returns:
            What the softmax reads (B, L, D), the solve's statistics, and the memory for the
            segment after this one.
        """
        context = self.encode(tokens, memory, key=key)
        z, info = self.equilibrium(context, key=key)
        return self.decode(z, key=key), info, memory.extended(z, context.u)

    def encode(self, tokens: Array, memory: Memory, *, key: Array | None = None) -> Context:
        """Tokens (B, L) and memory -> what the equilibrium depends on."""
        dropout = self._dropout(key)
        u = self.injection(dropout.embedding(self.vocabulary.embed(tokens)))
        length, remembered = tokens.shape[1], memory.z.shape[1]
        return Context(
            z_memory=memory.z,
            u=jnp.concatenate([memory.u, u], axis=1),
            encodings=dropout.encodings(self.positions(remembered + length).astype(u.dtype)),
            mask=visible(length, memory.filled, remembered, self.config.horizon),
        )

    def decode(self, z: Array, *, key: Array | None = None) -> Array:
        """State (B, L, D) -> what the softmax reads (B, L, D)."""
        return self._dropout(key).output(z)

    def folded(self) -> "LanguageModel":
        """A copy whose kernels are the normalised ones; it computes the same, and trains no more.

        Worth it where a call reads a single token: normalising costs as much as reading does.
        """
        copy = nnx.clone(self)
        if isinstance(copy.equilibrium.cell, jdeq.nn.KernelNorm):
            copy.equilibrium.cell = copy.equilibrium.cell.fold()
        return copy

    def _dropout(self, key: Array | None) -> IODropout:
        """With the masks of this key; the DEQ layer sees to it that there is one if need be."""
        if key is None:
            return self.dropout
        return jdeq.nn.redraw(self.dropout, jax.random.fold_in(key, IO_DROPOUT))


def nll(
    model: LanguageModel,
    tokens: Array,
    targets: Array,
    memory: Memory,
    *,
    key: Array | None = None,
) -> tuple[Array, jdeq.SolverInfo, Memory]:
    """Negative log probability of each target, (B, L), statistics and the memory afterwards.

    Args:
        model: its mode, training or evaluation, decides about iterations and dropout.
        tokens, targets: (B, L) int; a target is the token that follows.
        memory, key: as in a call of the model.
    """
    hidden, info, memory = model(tokens, memory, key=key)
    return model.vocabulary.nll(hidden, targets), info, memory


def training_loss(
    model: LanguageModel,
    tokens: Array,
    targets: Array,
    memory: Memory,
    *,
    key: Array,
    jac_weight: float | Array | None = None,
) -> tuple[Array, tuple[Array, jdeq.SolverInfo, Memory]]:
    """Mean NLL, where earlier states of the solve count less, by `gamma` each; plus the penalty.

    Args:
        model, tokens, targets, memory, key: as in `nll`.
        jac_weight: weight of the Jacobian penalty, instead of the configured one.

    Returns:
        The loss (), and what `nll` returns, for the last state.
    """
    context = model.encode(tokens, memory, key=key)
    z, info = model.equilibrium(context, key=key)
    nlls = [model.vocabulary.nll(model.decode(s, key=key), targets) for s in info.states or (z,)]
    loss = model.equilibrium.correction(jnp.mean, nlls)
    loss = loss + model.equilibrium.jac_loss(context, z, key, weight=jac_weight)
    return loss, (nlls[-1], info, memory.extended(z, context.u))
