"""Linen modules in `f`: variables may be read while it is traced, not made or written."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import jax
from flax import linen
from flax.core import Scope

SHOWN = 3  # most variables named in a message


@contextlib.contextmanager
def variables_only_read(f: Callable[..., Any]) -> Iterator[None]:
    """Watches, while `f` is traced, the Linen modules that live on afterwards.

    Raises:
        TypeError: `f` left arrays of its trace in them; the variables are named.
    """
    before: dict[Scope, dict[str, Any]] = {}  # scopes are equal if their variables are the same

    def watch(module: linen.Module) -> None:
        if module.scope is not None and module.scope.root not in before:
            before[module.scope.root] = _variables(module.scope.root)

    def intercept(method: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        watch(context.module)
        return method(*args, **kwargs)

    for module in _closed_over(f):  # `self.param` is no method that can be intercepted
        watch(module)
    with linen.intercept_methods(intercept):
        yield
    for scope, old in before.items():
        if not scope.invalid:  # that of an `init` or `apply` within f is
            _check(scope, old)


def _check(scope: Scope, old: dict[str, Any]) -> None:
    new = _variables(scope)
    touched = [path for path, value in new.items() if old.get(path) is not value]
    if not touched:
        return
    names = ", ".join(touched[:SHOWN])
    names += f" and {len(touched) - SHOWN} more" if len(touched) > SHOWN else ""
    if scope.get_flag("initializing", False):
        raise TypeError(
            f"f creates parameters of a Linen module ({names}) while it is traced, so that they "
            "would be no arrays. Make the module before the solve, `cell = nn.Dense(16)`, and do "
            "not solve to initialise it: `z = cell(z0) if self.is_initializing() else "
            "jdeq.deq(...)[0]`. Or initialise it outside, `params = cell.init(key, z0)`, and write "
            "`cell.apply(params, z)` in f."
        )
    raise TypeError(
        f"f writes to variables of a Linen module ({names}), which cannot happen inside a solve. "
        "Use BatchNorm in f with use_running_average=True, sow outside of f, or write "
        "`cell.apply(variables, z)` in f."
    )


def _variables(scope: Scope) -> dict[str, Any]:
    """The arrays by path, `params/Dense_0/kernel`."""
    leaves = jax.tree_util.tree_leaves_with_path(scope.variables())
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _closed_over(f: Any) -> Iterator[linen.Module]:
    """The Linen modules that a function holds on to, and the functions that it does."""
    waiting, seen = [f], set()
    while waiting:
        held = waiting.pop()
        if id(held) in seen:
            continue
        seen.add(id(held))
        if isinstance(held, linen.Module):
            yield held
        elif isinstance(held, functools.partial):
            waiting += [held.func, *held.args, *held.keywords.values()]
        elif inspect.ismethod(held):
            waiting += [held.__self__, held.__func__]
        elif inspect.isfunction(held):
            for cell in held.__closure__ or ():
                with contextlib.suppress(ValueError):  # a name that has no value yet
                    waiting.append(cell.cell_contents)
