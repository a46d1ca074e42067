"""What this machine can compile."""

import functools

import jax
import jax.numpy as jnp
import pytest


@functools.cache
def compiles_float16() -> bool:
    """Whether XLA does: for an x86 without F16C it has no function that converts them."""
    try:
        jax.jit(lambda x: x + x)(jnp.zeros((), jnp.float16))
    except jax.errors.JaxRuntimeError as e:
        assert "materialize symbols" in str(e)
        return False
    return True


needs_float16 = pytest.mark.skipif(
    not compiles_float16(), reason="XLA compiles no float16 for this CPU"
)
FLOAT16 = pytest.param(jnp.float16, marks=needs_float16)
