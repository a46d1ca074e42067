"""Equal traces share one compiled program, so that a fresh closure costs no fresh compilation."""

import dataclasses
import functools
from collections.abc import Callable, Hashable
from typing import Any, Literal

import jax
import numpy as np
from jax import Array
from jax.extend import core as jex

PROGRAMS = 128  # kept; the least recently used one goes first
RULES = ("jvp_jaxpr_fun", "fwd_jaxpr_thunk", "bwd", "out_trees", "rule")


def reuse(
    run: Callable[..., Any],
    f: Callable[..., Any],
    settings: Any,
    *args: Any,
    needs: Literal["values", "gradients", "all derivatives"],
) -> Any:
    """`run(*args)`, compiled once for all `run` with equal `settings` and equal traces of `f`.

    `run` must do the same as any other with these: what differs goes through its arguments. Where
    equality can't be told it is called as it is.

    Args:
        f: what `run` was made from; takes the first two of `args`.
        settings: everything else that it was made from.
        needs: what of `f` comes to bear on the outcome, and on derivatives that are taken of it.
    """
    if not is_plain(settings):
        return run(*args)
    equation, has_rules = fingerprint(f, *args[:2])
    if has_rules and needs == "all derivatives":
        return run(*args)
    if has_rules and needs == "gradients":

        def pulled(*args: Any) -> Any:
            out, pull = jax.vjp(f, *args)
            return pull(out)

        equation = equation, fingerprint(pulled, *args[:2])[0]
    return _compiled(_Program((equation, settings), run))(*args)


def fingerprint(f: Callable[..., Any], *args: Any) -> tuple[Hashable, bool]:
    """What `f` computes for arguments of these types, as a value to compare.

    Equal fingerprints mean equal programs; what can't be compared by value is compared by
    identity, so that a doubt means a difference.

    Returns:
        The fingerprint, and whether the trace holds custom derivative rules. They are left out:
        nothing tells two of them apart.
    """
    traced, out = jax.make_jaxpr(f, return_shape=True)(*args)
    walk = _Walk()
    return (walk.value(traced), jax.tree.structure((args, out))), walk.found_rules


def is_plain(settings: Any) -> bool:
    """Whether settings are compared by value: numbers, names, functions, dataclasses of such."""
    if isinstance(settings, tuple):
        return all(map(is_plain, settings))
    if dataclasses.is_dataclass(settings):
        made: Any = type(settings)
        by_value = made.__dataclass_params__.eq  # a subclass with eq=False inherits an __eq__
        return by_value and all(map(is_plain, vars(settings).values()))
    return settings is None or isinstance(settings, str | int | float) or callable(settings)


@dataclasses.dataclass(frozen=True)
class _Program:
    key: Hashable
    run: Callable[..., Any] = dataclasses.field(compare=False)


@functools.lru_cache(maxsize=PROGRAMS)
def _compiled(program: _Program) -> Callable[..., Any]:
    return jax.jit(program.run)


@dataclasses.dataclass(frozen=True, eq=False)
class _Same:
    """Equal to wrappers of the very same object, which it keeps alive."""

    thing: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.thing is other.thing

    def __hash__(self) -> int:
        return id(self.thing)


class _Walk:
    """Turns jaxprs into nested tuples."""

    def __init__(self) -> None:
        self.found_rules = False

    def jaxpr(self, jaxpr: jex.Jaxpr) -> Hashable:
        numbers: dict[Any, int] = {}

        def name(variables: Any) -> tuple[Hashable, ...]:
            return tuple((numbers.setdefault(v, len(numbers)), v.aval) for v in variables)

        def read(atom: Any) -> Hashable:
            if isinstance(atom, jex.Literal):
                return self.value(np.asarray(atom.val)), atom.aval
            return numbers[atom]

        start = name(jaxpr.constvars), name(jaxpr.invars)
        equations = []
        for e in jaxpr.eqns:
            inputs = tuple(map(read, e.invars))
            parameters = self.value({k: v for k, v in e.params.items() if not self.is_rule(k)})
            context = self.value(getattr(e, "ctx", None))
            equations.append((e.primitive, parameters, context, inputs, name(e.outvars)))
        return start, tuple(equations), tuple(map(read, jaxpr.outvars))

    def is_rule(self, parameter: str) -> bool:
        self.found_rules |= parameter in RULES
        return parameter in RULES

    def value(self, x: Any) -> Hashable:
        if isinstance(x, jex.ClosedJaxpr):
            return self.jaxpr(x.jaxpr), self.value(x.consts)
        if isinstance(x, jex.Jaxpr):
            return self.jaxpr(x)
        if isinstance(x, tuple | list):
            return type(x).__name__, *map(self.value, x)
        if isinstance(x, dict):
            return "dict", *((k, self.value(x[k])) for k in sorted(x, key=str))
        if isinstance(x, np.ndarray):  # which can be written to
            return x.dtype, x.shape, x.tobytes()
        if isinstance(x, Array):
            return _Same(x)
        try:
            hash(x)
        except TypeError:
            return _Same(x)
        return type(x), x
