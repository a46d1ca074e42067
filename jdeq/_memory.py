"""How many bytes the loops of a program carry."""

from typing import Any

import jax
from jax.extend import core as jex

from ._communication import inner_jaxprs

LOOPS = ("while", "scan")


def carried_bytes(jaxpr: jex.Jaxpr) -> int:
    """Of the loops that hold most at a time, one within the other: what they carry, together."""
    most = 0
    for e in jaxpr.eqns:
        inside = max((carried_bytes(inner) for inner in inner_jaxprs(e.params.values())), default=0)
        own = sum(_nbytes(v.aval) for v in e.outvars) if e.primitive.name in LOOPS else 0
        most = max(most, own + inside)
    return most


def _nbytes(aval: Any) -> int:
    return aval.size * jax.numpy.dtype(aval.dtype).itemsize
