"""Over which mesh or `vmap` axes `f` communicates, and whether that is about the state."""

from collections.abc import Iterable
from typing import Any

import jax
from jax.extend import core as jex

from ._hoist import Function, Traced
from ._jaxprs import inner_jaxprs
from ._space import PyTree, may_differ

LOCAL = ("axis_index", "pvary", "preduced", "vary_unreduced_cast_p")  # name an axis, say nothing
ONE_TO_ONE = (
    "jit",
    "pjit",
    "closed_call",
    "checkpoint",
    "remat",
    "custom_jvp_call",
    "custom_vjp_call",
    "cond",
)


def axes_of(function: Function, z0: PyTree) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The axes over which samples are split, and those along which solves go on in step.

    What `f` sends along an axis is either made of its state, which then is one system with the
    states elsewhere on the axis, or not (parameters are gathered, say): then it is enough that all
    make the same number of calls.
    """
    assert isinstance(function, Traced)
    walk = _Walk()
    of_state = len(jax.tree.leaves(z0))
    invars = function.jaxpr.invars
    walk.jaxpr(function.jaxpr, set(invars[len(invars) - of_state :]))
    leaves = jax.tree.leaves(z0)
    split = {name for name in walk.about_state if any(may_differ(x, name) for x in leaves)}
    return tuple(sorted(split)), tuple(sorted(walk.names - split))


class _Walk:
    """Collects the names of axes: all, and those along which something goes that is tainted.

    Variables are tainted that may depend on the state: in calls whose arguments can't be matched
    with those of their inner function, all of them if one is.
    """

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.about_state: set[str] = set()

    def jaxpr(self, jaxpr: jex.Jaxpr, tainted: set[Any]) -> list[bool]:
        """Walks through a function with these tainted variables; which outputs are tainted."""
        reached = lambda atoms: [not isinstance(a, jex.Literal) and a in tainted for a in atoms]
        for e in jaxpr.eqns:
            inputs = reached(e.invars)
            if e.primitive.name not in LOCAL:
                here = set(_names(e.params.get("axes")) | _names(e.params.get("axis_name")))
                self.names |= here
                self.about_state |= here if any(inputs) else set()
            outputs = [any(inputs)] * len(e.outvars)
            outer = _Walk()
            for inner in inner_jaxprs(e.params.values()):
                given = inputs[len(inputs) - len(inner.invars) :]
                matched = e.primitive.name in ONE_TO_ONE and len(given) == len(inner.invars)
                given = given if matched else [any(inputs)] * len(inner.invars)
                pairs = zip(inner.invars, given, strict=True)
                found = outer.jaxpr(inner, {v for v, yes in pairs if yes})
                if matched and e.primitive.name != "cond":
                    outputs = found
            own = _names(e.params.get("manual_axes"))  # of a shard_map in f
            self.names |= outer.names - own
            self.about_state |= outer.about_state - own
            tainted |= {v for v, yes in zip(e.outvars, outputs, strict=True) if yes}
        return reached(jaxpr.outvars)


def _names(axes: Any) -> set[str]:
    """Those of an entry that names axes, which may be numbers of axes too."""
    if isinstance(axes, str):
        return {axes}
    return {a for a in axes if isinstance(a, str)} if isinstance(axes, Iterable) else set()
