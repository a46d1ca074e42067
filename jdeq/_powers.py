"""Powers of two, by which a vector is scaled without changing a digit."""

import jax.numpy as jnp
from jax import Array


def floor_log2(x: Array) -> Array:
    """int32 e with 2^e <= x < 2^(e+1), where x is a positive normal number.

    By the mantissa: from JAX 0.12 on a mesh with explicit axes gathers the exponent of `jnp.frexp`.
    """
    x = jnp.maximum(x, jnp.finfo(x.dtype).tiny)
    mantissa = jnp.frexp(x)[0]
    return jnp.round(jnp.log2(x / (2 * mantissa))).astype(jnp.int32)
