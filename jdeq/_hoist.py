"""`f` as a pure function: tracing it once hoists everything that it closes over."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
from flax.errors import TraceContextError
from jax import Array, core, lax
from jax.extend import core as jex

from ._jaxprs import without_values
from ._linen import variables_only_read
from ._space import PyTree
from ._state import check_output, check_takes_state


class Function(Protocol):
    """`f` with the values that it closed over as its first argument, and nothing else in it.

    Hashable, by identity; `jdeq._programs` tells whether two of them do the same.
    """

    def __call__(self, consts: Sequence[Any], z: PyTree) -> PyTree:
        """`f(z)`."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Traced:
    """A `Function` that evaluates a trace of `f`, for states of the structure `tree`."""

    jaxpr: jex.Jaxpr
    tree: Any

    def __call__(self, consts: Sequence[Any], z: PyTree) -> PyTree:
        flat = core.eval_jaxpr(self.jaxpr, consts, *jax.tree.leaves(z))
        return jax.tree.unflatten(self.tree, flat)


def hoist(f: Callable[[PyTree], PyTree], z0: PyTree) -> tuple[Traced, list[Any], PyTree]:
    """Splits `f` into a pure function and the values that it closes over.

    Everything is hoisted, differentiable or not: a custom derivative rule may not leave tracers,
    integers or keys of an outer transformation inside.

    Returns:
        `function(consts, z)`, `consts`, and `z0` cast to vary over the mesh axes that `f(z0)`
        varies over (inside `shard_map`).

    Raises:
        TypeError: `f` takes something else than a state, changes the structure, a shape or a dtype
            (the leaf is named), or writes to the state of a Flax module (of a Linen module the
            variable is named).
    """
    check_takes_state(f, z0)
    tree = jax.tree.structure(z0)
    while True:
        traced, out = _trace(f, z0)
        check_output(z0, out)
        start = z0
        z0 = jax.tree.map(_vary_like, z0, jax.tree.unflatten(tree, traced.out_avals))
        if all(a is b for a, b in zip(jax.tree.leaves(start), jax.tree.leaves(z0), strict=True)):
            return Traced(without_values(traced), tree), list(traced.consts), z0


def _trace(f: Callable[[PyTree], PyTree], z0: PyTree) -> tuple[jex.ClosedJaxpr, PyTree]:
    try:
        # a fresh function each time: make_jaxpr remembers what an old one closed over
        with variables_only_read(f):
            return jax.make_jaxpr(lambda z: f(z), return_shape=True)(z0)
    except TraceContextError as error:
        raise TypeError(
            "f writes to the state of a Flax module, which cannot happen inside a solve. "
            "Compute dropout masks and normalised weights once, before the solve, and use "
            "BatchNorm only in eval mode (use_running_average=True) or outside f."
        ) from error


def _vary_like(x: Array, aval: Any) -> Array:
    """Inside `shard_map`, a replicated start is marked as varying where f's output varies."""
    axes = tuple(aval.mat.varying - jax.typeof(x).mat.varying)
    return lax.pcast(x, axes, to="varying") if axes else x
