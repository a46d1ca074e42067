"""Variational dropout: one mask for all iterations of a solve."""

from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from .._checks import check_scalar


class VariationalDropout(nnx.Module):
    """Drops entries at random, the same ones whenever it is called with the same key.

    A fresh mask in every iteration would leave the solver without a fixed point to find. So the
    layer holds a *key*, and its mask is a function of that key and the input's shape: equal in all
    iterations, in the backward solve, under rematerialisation and however the arrays are sharded.
    It only reads the key, which is what a module inside a solve may do. `jdeq.nn.DEQ` gives
    every layer in its cell a key of its own, new in each training call, from the `key` of the call;
    elsewhere `redraw` does.

    Nothing is stored but the key, so any shape and batch size will do. Under `jit` XLA draws the
    mask once, before the loop; in a rematerialised or scanned block of the cell it does so anew in
    each iteration.

    Args:
        rate: probability of dropping an entry, in [0, 1). What is kept is divided by `1 - rate`.
        rngs: the stream `dropout`, or the default one, gives the first key.

    Attributes:
        deterministic: hand the input on unchanged; `module.eval()` sets it, `module.train()`
            clears it.
        key: `nnx.RngKey`, a PRNG key.

    Raises:
        ValueError: `rate` is out of range: with 1 nothing would be left to scale.

    Source: Gal, Ghahramani, *A Theoretically Grounded Application of Dropout in Recurrent Neural
    Networks* (2016); Bai et al., *Deep Equilibrium Models* (2019).

    Example:
        >>> from flax import nnx
        >>> import jax, jax.numpy as jnp, jdeq
        >>> drop = jdeq.nn.VariationalDropout(0.5, rngs=nnx.Rngs(0))
        >>> x = jnp.ones((2, 8))
        >>> bool((drop(x) == drop(x)).all())
        True
        >>> other = jdeq.nn.redraw(drop, jax.random.key(1))
        >>> bool((drop(x) == other(x)).all())
        False
    """

    def __init__(self, rate: float, *, rngs: nnx.Rngs):
        check_scalar("rate", rate, low=0, below=1)
        self.rate = rate
        self.deterministic = False
        self.key = nnx.RngKey(_typed(rngs.dropout()), tag="dropout")

    def __call__(self, x: Array) -> Array:
        """x, of shape and dtype unchanged, with the entries of the mask dropped."""
        if self.deterministic or self.rate == 0:
            return x
        keep = 1 - self.rate
        mask = jax.random.bernoulli(self.key[...], keep, self.mask_shape(x.shape))
        return x * (mask.astype(x.dtype) / jnp.asarray(keep, x.dtype))

    def mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the mask for an input of this shape; it is broadcast where it has ones."""
        return shape


class _Structured(VariationalDropout):
    """Drops whole channels, or whole tokens, of each sample.

    Args:
        rate: probability of dropping, in [0, 1).
        token_first: inputs are `(*batch, *tokens, channels)`, otherwise `(*batch, channels,
            *tokens)`. Axes before these are samples, however many.
        rngs: as in `VariationalDropout`.

    Raises:
        ValueError: `rate` is out of range; in a call, the input has too few axes.
    """

    n_axes: ClassVar[int]  # of tokens
    drops: ClassVar[Literal["channels", "tokens"]]

    def __init__(self, rate: float, *, token_first: bool = True, rngs: nnx.Rngs):
        super().__init__(rate, rngs=rngs)
        self.token_first = token_first

    def mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """`shape` with ones at the axes over which a channel, or a token, is dropped as a whole."""
        first = len(shape) - 1 - self.n_axes
        if first < 0:
            raise ValueError(
                f"{type(self).__name__} wants at least {self.n_axes + 1} axes, got shape {shape}"
            )
        channels = len(shape) - 1 if self.token_first else first
        tokens = set(range(first, len(shape))) - {channels}
        shared = tokens if self.drops == "channels" else {channels}
        return tuple(1 if i in shared else size for i, size in enumerate(shape))


class VariationalDropout1d(_Structured):
    """Drops whole channels of sequences: the mask of `(B, T, D)` is `(B, 1, D)`.

    Args and errors: see `VariationalDropout`; `token_first=False` for `(B, D, T)`.

    Example:
        >>> from flax import nnx
        >>> import jax.numpy as jnp, jdeq
        >>> drop = jdeq.nn.VariationalDropout1d(0.5, rngs=nnx.Rngs(0))
        >>> y = drop(jnp.ones((2, 3, 8)))
        >>> bool((y == y[:, :1]).all()), drop.mask_shape((2, 3, 8))
        (True, (2, 1, 8))
    """

    n_axes, drops = 1, "channels"


class VariationalDropout2d(_Structured):
    """Drops whole channels of images: the mask of `(B, H, W, C)` is `(B, 1, 1, C)`.

    Args and errors: see `VariationalDropout`; `token_first=False` for `(B, C, H, W)`.
    """

    n_axes, drops = 2, "channels"


class VariationalDropout3d(_Structured):
    """Drops whole channels of volumes: the mask of `(B, X, Y, Z, C)` is `(B, 1, 1, 1, C)`.

    Args and errors: see `VariationalDropout`; `token_first=False` for `(B, C, X, Y, Z)`.
    """

    n_axes, drops = 3, "channels"


class VariationalDropToken1d(_Structured):
    """Drops whole tokens of sequences: the mask of `(B, T, D)` is `(B, T, 1)`.

    Args and errors: see `VariationalDropout`; `token_first=False` for `(B, D, T)`.
    """

    n_axes, drops = 1, "tokens"


class VariationalDropToken2d(_Structured):
    """Drops whole pixels of images: the mask of `(B, H, W, C)` is `(B, H, W, 1)`.

    Args and errors: see `VariationalDropout`; `token_first=False` for `(B, C, H, W)`.
    """

    n_axes, drops = 2, "tokens"


class VariationalDropToken3d(_Structured):
    """Drops whole voxels of volumes: the mask of `(B, X, Y, Z, C)` is `(B, X, Y, Z, 1)`.

    Args and errors: see `VariationalDropout`; `token_first=False` for `(B, C, X, Y, Z)`.
    """

    n_axes, drops = 3, "tokens"


def redraw(module: Any, key: Array) -> Any:
    """A copy of a module whose variational dropout layers have new keys, each one its own.

    Args:
        module: an NNX module; it is not changed, and gradients reach its parameters.
        key: PRNG key.

    Returns:
        The copy.
    """
    copy = nnx.merge(*nnx.split(module), copy=True)
    for i, layer in enumerate(dropout_layers(copy)):
        mine = jax.random.fold_in(_typed(key), i)
        stacked = layer.key[...].shape  # nnx.vmap makes several layers of one
        layer.key.set_value(jax.random.split(mine, stacked) if stacked else mine)
    return copy


def dropout_layers(module: Any) -> list[VariationalDropout]:
    """The variational dropout layers of an NNX module, in a fixed order; none of anything else."""
    if not isinstance(module, nnx.Module):
        return []
    return [m for _, m in nnx.iter_modules(module) if isinstance(m, VariationalDropout)]


def _typed(key: Array) -> Array:
    """The key as an array with one element per key, also if it is of the older kind."""
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return key if typed else jax.random.wrap_key_data(key)
