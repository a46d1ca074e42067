"""Mixed initialisation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from .._space import PyTree
from .._spectrum import random_like


def mixed_init(key: Array, shape_or_pytree: Any, dtype: DTypeLike | None = None) -> PyTree:
    """A start state of which half the entries are 0 and half standard normal, drawn entry by entry.

    Trained from such starts, a model comes to depend less on where its solver starts: one that
    is *path independent* may iterate longer at test time, and profits.

    Args:
        key: PRNG key.
        shape_or_pytree: a shape such as `(B, D)`; an array or a `jax.ShapeDtypeStruct`; or a
            pytree of any of them.
        dtype: of the result. By default that of the array given, or the default float for a shape.

    Returns:
        Arrays in the structure of `shape_or_pytree`.

    Raises:
        TypeError: the dtype is not floating.

    Source: Anil et al., *Path Independent Equilibrium Models Can Better Exploit Test-Time
    Computation* (2022); TorchDEQ paper, sec. 2.6.

    Example:
        >>> import jax, jax.numpy as jnp, jdeq
        >>> z0 = jdeq.mixed_init(jax.random.key(0), {"h": (2, 3), "coords": jnp.zeros((2, 4))})
        >>> jax.tree.map(jnp.shape, z0)
        {'coords': (2, 4), 'h': (2, 3)}
        >>> layer = jdeq.nn.DEQ(  # with a key, every call starts anew
        ...     lambda z, x: jnp.tanh(0.5 * z + x), init=lambda x, key: jdeq.mixed_init(key, x))
        >>> z, info = layer(jnp.ones((2, 3)), key=jax.random.key(1))
    """

    def like(leaf: Any) -> Any:
        of = dtype or (float if _is_shape(leaf) else leaf.dtype)
        if not jnp.issubdtype(of, jnp.floating):
            raise TypeError(f"mixed_init makes floating states, got dtype {jnp.dtype(of)}")
        return jnp.zeros(leaf, of) if _is_shape(leaf) else jnp.zeros_like(leaf, of)

    zeros = jax.tree.map(like, shape_or_pytree, is_leaf=_is_shape)
    normal, kept = jax.random.split(key)
    coins = random_like(kept, zeros, _coins)
    return jax.tree.map(jnp.multiply, random_like(normal, zeros), coins)


def _coins(key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    return jax.random.bernoulli(key, shape=shape).astype(dtype)


def _is_shape(x: Any) -> bool:
    return isinstance(x, int | np.integer) or (
        isinstance(x, tuple | list) and all(isinstance(n, int | np.integer) for n in x)
    )
