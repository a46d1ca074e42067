"""Looking up settings objects by name, with errors that say what is accepted."""

import difflib
import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

T = TypeVar("T")
EMPTY: Mapping[str, str] = types.MappingProxyType({})


class Registry(Generic[T]):
    """Factories of settings objects, by name.

    Args:
        kind: what the entries are, for messages: "solver".
        base: the class whose instances the factories make.
        reserved: names that mean something else wherever one is named, and what.

    Attributes:
        entries: the factories by name, in the order in which they were registered.
    """

    def __init__(self, kind: str, base: type[T], reserved: Mapping[str, str] = EMPTY):
        self.kind = kind
        self.base = base
        self.reserved = reserved
        self.entries: dict[str, Callable[..., T]] = {}

    def register(self, name: str, factory: Callable[..., T], *, overwrite: bool = False) -> None:
        """Makes `factory` available under `name`; a taken name raises unless `overwrite`."""
        if not isinstance(name, str) or not name.strip():
            raise TypeError(f"the name of a {self.kind} must be a word, got {name!r}")
        if not callable(factory):
            raise TypeError(f"{self.kind} {name!r} must be a class or function, got {factory!r}")
        if name in self.reserved:
            raise ValueError(
                f"the {self.kind} {name!r} {self.reserved[name]} and cannot be registered"
            )
        if name in self.entries and not overwrite:
            raise ValueError(
                f"{self.kind} {name!r} is registered already; pass overwrite=True to replace it"
            )
        self.entries[name] = factory

    def resolve(self, spec: Any, options: Mapping[str, Any]) -> T:
        """The object that `spec`, a name or an object, stands for; options go with a name only."""
        if isinstance(spec, self.base):
            if options:
                raise TypeError(
                    f"options go with a {self.kind} name, but {spec!r} is an object: "
                    f"set {', '.join(sorted(options))} there"
                )
            return spec
        if not isinstance(spec, str):
            raise TypeError(
                f"{self.kind} must be a name or a {self.base.__name__} object, got {spec!r}"
            )
        if spec not in self.entries:
            raise ValueError(
                f"unknown {self.kind} {spec!r}{suggest(spec, self.entries)}: "
                f"use one of {', '.join(map(repr, self.entries))}, or an object"
            )
        factory = self.entries[spec]
        accepted = [p for p in inspect.signature(factory).parameters]
        for option in options:
            if option not in accepted:
                raise TypeError(
                    f"{self.kind} {spec!r} has no option {option!r}"
                    f"{suggest(option, accepted)}: it takes {', '.join(accepted)}"
                )
        made = factory(**options)
        if not isinstance(made, self.base):
            raise TypeError(
                f"the factory of {self.kind} {spec!r} made {made!r}, not a {self.base.__name__}"
            )
        return made


def suggest(word: str, known: Iterable[str]) -> str:
    """A question to end a message with, when one of the `known` words is close to this one."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
