"""Questions about traced programs: the functions in them, and the bytes that their loops carry."""

from collections.abc import Iterable, Iterator
from typing import Any

import jax.numpy as jnp
from jax.extend import core as jex

LOOPS = ("while", "scan")


def inner_jaxprs(parameters: Iterable[Any]) -> Iterator[jex.Jaxpr]:
    """The functions among the parameters of an equation."""
    for x in parameters:
        if isinstance(x, jex.ClosedJaxpr):
            yield x.jaxpr
        elif isinstance(x, jex.Jaxpr):
            yield x
        elif isinstance(x, tuple | list):
            yield from inner_jaxprs(x)


def without_values(closed: jex.ClosedJaxpr) -> jex.Jaxpr:
    """The function alone, for `jax.core.eval_jaxpr`.

    From JAX 0.12 on it is no object of its own, and would keep the values that it closes over.
    """
    apart = closed.jaxpr is not closed
    return closed.jaxpr if apart else closed.with_consts([])  # pyright: ignore


def carried_bytes(jaxpr: jex.Jaxpr) -> int:
    """Of the loops that hold most at a time, one within the other: what they carry, together."""
    most = 0
    for e in jaxpr.eqns:
        inside = max((carried_bytes(inner) for inner in inner_jaxprs(e.params.values())), default=0)
        own = sum(_nbytes(v.aval) for v in e.outvars) if e.primitive.name in LOOPS else 0
        most = max(most, own + inside)
    return most


def _nbytes(aval: Any) -> int:
    return aval.size * jnp.dtype(aval.dtype).itemsize
