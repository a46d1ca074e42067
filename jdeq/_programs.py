"""Equal problems share one compiled program, so that a fresh closure costs no fresh compilation."""

import dataclasses
import functools
from collections.abc import Callable, Hashable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, core
from jax.extend import core as jex

from ._hoist import Function, Traced

PROGRAMS = 128  # kept; the least recently used one goes first
RULES = ("jvp_jaxpr_fun", "fwd_jaxpr_thunk", "bwd", "out_trees", "rule")
KEEPS_NUMBERS = ("pow",)  # XLA has a cheaper way for some exponents


def reuse(
    run: Callable[..., Any],
    problem: Any,
    *more: Any,
    needs: Literal["values", "gradients", "all derivatives"],
) -> Any:
    """`run(function, problem, *more)`, compiled once for arguments that are equal but for arrays.

    `function` is that of the problem; the Python floats that it closed over count as arrays. A
    program is kept without the values that it was first called with. Where equality can't be told,
    `run` is called as it is.

    Args:
        run: a function of a module; takes the function of `problem` apart from it.
        problem: a `jdeq.extend.Problem`.
        more: pytrees.
        needs: what of `f` comes to bear on the outcome, and on derivatives that are taken of it.
    """
    whole = problem.function
    function, numbers = without_numbers(whole)
    equation, has_rules = fingerprint(function)
    if has_rules and needs == "all derivatives" and is_traced((problem, more)):
        return run(whole, problem, *more)
    if has_rules and needs == "gradients":
        consts = [*numbers, *problem.consts]
        equation = equation, _fingerprint_of_vjp(function, consts, problem.z0)
    # what else the outcome does not depend on is no part of the program
    problem = dataclasses.replace(problem, function=None, warn=False, adjoint0=None)
    key = run, equation, jax.tree.structure((problem, more))
    try:
        compiled = _compiled(_Keyed(key, functools.partial(_run_with, run, function)))
    except TypeError:  # a setting that cannot be hashed
        return run(whole, problem, *more)
    return compiled(numbers, problem, *more)


def clear_cache() -> None:
    """Frees the compiled programs of solves outside `jit`.

    Each takes about 3 MiB, most of it outside of Python's memory; the last 128 are kept, one per
    `f`, solver and shapes. JAX's own traces of them, up to 2 MiB each, and what you compiled by
    `jax.jit` go by `jax.clear_caches()`.

    Example:
        >>> import jax.numpy as jnp, jdeq
        >>> z, info = jdeq.deq(jnp.cos, jnp.zeros((2, 3)))
        >>> jdeq.clear_cache()
    """
    _compiled.cache_clear()


def _run_with(run: Callable[..., Any], function: Function, numbers: list[Any], *args: Any) -> Any:
    return run(lambda consts, z: function([*numbers, *consts], z), *args)


def without_numbers(function: Function) -> tuple[Traced, list[Any]]:
    """The function with the floats in it as its first constants, and these; made once.

    Not those within inner functions, which are mostly a library's; nor integers, which may be
    positions and sizes.
    """
    assert isinstance(function, Traced)
    found = vars(function).get("_without_numbers")
    if found is None:
        found = vars(function)["_without_numbers"] = _without_numbers(function)
    return found


def _without_numbers(function: Traced) -> tuple[Traced, list[Any]]:
    numbers: list[Any] = []
    variables: list[jex.Var] = []

    def lifted(atom: Any) -> Any:
        if not isinstance(atom, jex.Literal):
            return atom
        aval: Any = atom.aval
        if aval.shape or not jnp.issubdtype(aval.dtype, jnp.floating):
            return atom
        value = np.asarray(atom.val, aval.dtype)
        numbers.append(value)
        variables.append(jex.Var(jax.typeof(value)))
        return variables[-1]

    jaxpr = function.jaxpr
    equations = [
        e
        if e.primitive.name in KEEPS_NUMBERS
        else e.replace(invars=[lifted(atom) for atom in e.invars])
        for e in jaxpr.eqns
    ]
    jaxpr = jaxpr.replace(eqns=equations, constvars=[*variables, *jaxpr.constvars])
    return Traced(jaxpr, function.tree), numbers


def is_traced(tree: Any) -> bool:
    """Whether an array is one of a transformation that goes on: derivatives may be taken of it."""
    return any(isinstance(x, core.Tracer) for x in jax.tree.leaves(tree))


@dataclasses.dataclass(frozen=True)
class _Keyed:
    key: Hashable
    run: Callable[..., Any] = dataclasses.field(compare=False)


@functools.lru_cache(maxsize=PROGRAMS)
def _compiled(program: _Keyed) -> Callable[..., Any]:
    return jax.jit(program.run)


class Fingerprint(NamedTuple):
    """What a function computes, as a value to compare; whether it has derivative rules of its own.

    Equal fingerprints mean equal programs; what can't be compared by value is compared by
    identity, so that a doubt means a difference. Custom derivative rules are left out: nothing
    tells two of them apart.
    """

    equation: Hashable
    has_rules: bool


def fingerprint(function: Function) -> Fingerprint:
    """The fingerprint of a function, made once."""
    assert isinstance(function, Traced)
    found = vars(function).get("_fingerprint")
    if found is None:
        walk = _Walk()
        found = Fingerprint((walk.jaxpr(function.jaxpr), function.tree), walk.found_rules)
        vars(function)["_fingerprint"] = found
    return found


def _fingerprint_of_vjp(function: Function, consts: list[Any], z0: Any) -> Hashable:
    def pulled(*args: Any) -> Any:
        out, pull = jax.vjp(function, *args)
        return pull(out)

    return _Walk().value(jax.make_jaxpr(pulled)(consts, z0))


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
