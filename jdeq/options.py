"""Options: a field declared once is checked, saved as JSON, and (`command_line`) put on a parser.

Example:
    >>> import dataclasses
    >>> @dataclasses.dataclass(frozen=True)
    ... class Sizes(Options, what="size"):
    ...     width: int = option(8, "features", low=1)
    ...     kernel: tuple[int, int] = option((3, 3), "of the convolution", low=1)
    >>> Sizes.from_dict({"kernel": [5, 3]})
    Sizes(width=8, kernel=(5, 3))
    >>> Sizes(width=0)
    Traceback (most recent call last):
    ValueError: width must be >= 1, got 0
    >>> Sizes.from_dict({"widht": 3})
    Traceback (most recent call last):
    TypeError: unknown size 'widht' (did you mean 'width'?): use kernel, width
"""

import dataclasses
import functools
import sys
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, Literal, Self, TypeVar

import numpy as np

from ._checks import Bounds, check_bool, check_choice, check_int, check_number, check_text
from ._named import suggest
from ._pairs import parse_pairs

T = TypeVar("T", bound="Options")
LARGEST = 2**31 - 1  # what int32 holds


def option(default: Any, text: str, group: str = "", **declared: Any) -> Any:
    """A field of `Options` that is an option: its annotation says what values it takes.

    `bool`, `int`, `float`, `str`, a `Literal` of words, a tuple of one of these of any or of a
    fixed length (`tuple[int, ...]`, `tuple[int, int]`), or a union of them and None.

    Args:
        default: where nothing is said.
        text: for `--help`.
        group: which of the groups of its `Options` it belongs to.
        **declared: what else there is to say; see `Option`.
    """
    declared |= {"text": text, "group": group}
    return dataclasses.field(default=default, metadata={"option": declared})


def from_data(default: Any, **declared: Any) -> Any:
    """A field that follows from the data, checked as any other, but on no command line."""
    return option(default, "", commands=(), **declared)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Option:
    """What is known of an option: by its annotation (`kind` to `optional`), and by `option`.

    Args:
        name, default: of the field.
        kind: of a value, or of each entry of a tuple.
        single: takes a value.
        many: takes a tuple; of this `length`, if that is given.
        optional: takes None.
        text, group: as in `option`; `heading` is that of the group.
        low, above, high, below: least and largest number, included and excluded; in any case
            integers are those of int32, and other numbers finite.
        choices: the accepted words, or a function that looks them up when they are needed.
        pairs: options of something else: `"m=5,lam=1e-4"`, a mapping or pairs; held as pairs.
        alias: another name on the command line.
        metavar: stands for its value in `--help`.
        commands: which may change it; None: those of its `Options`, and those in `also`.
        defines_parameters: with another value there are other parameters.
    """

    name: str
    default: Any
    kind: type = str
    single: bool = False
    many: bool = False
    length: int | None = None
    optional: bool = False
    text: str = ""
    low: float | None = None
    above: float | None = None
    high: float | None = None
    below: float | None = None
    choices: Collection[str] | Callable[[], Collection[str]] = ()
    pairs: bool = False
    group: str = ""
    heading: str = ""
    alias: str | None = None
    metavar: str | None = None
    commands: Collection[str] | None = None
    also: Collection[str] = ()
    defines_parameters: bool = False

    @property
    def accepted(self) -> tuple[str, ...]:
        """The words that may be chosen from now; none: there is no such list."""
        return tuple(self.choices() if callable(self.choices) else self.choices)

    def held(self, value: Any) -> Any:
        """The value as it is held: lists, of JSON, as tuples, NumPy's numbers as Python's.

        Raises:
            TypeError, ValueError: it is of another type, or out of range; names the option.
        """
        if self.pairs:
            return parse_pairs(self.name, value)
        if value is None and self.optional:
            return None
        if self.many and isinstance(value, list | tuple):
            if self.single and len(value) == 1:
                value = value[0]
            elif self.length in (None, len(value)):
                return tuple(self._entry(f"{self.name}[{i}]", x) for i, x in enumerate(value))
        if not self.single:
            count = "a sequence of" if self.length is None else self.length
            raise TypeError(f"{self.name} must be {count} {self.kind.__name__}s, got {value!r}")
        return self._entry(self.name, value)

    def _entry(self, name: str, value: Any) -> Any:
        value = value.item() if isinstance(value, np.generic) else value
        if self.choices:
            check_choice(name, value, self.accepted)
        elif self.kind is bool:
            check_bool(name, value)
        elif self.kind is str:
            check_text(name, value)
        else:
            bounds = Bounds(self.low, self.above, self.high, self.below)
            check = check_int if self.kind is int else check_number
            check(name, value, **bounds._asdict())
            largest = LARGEST if self.kind is int else sys.float_info.max
            if not abs(value) <= largest:  # NaN is not, either
                raise ValueError(f"{name} must be at most {largest} in size, got {value!r}")
        return value


@dataclasses.dataclass(frozen=True)
class Options:
    """Base of frozen dataclasses whose fields are options: they are checked when one is made.

    A subclass may have a `__post_init__` for what depends on several options; it begins with
    `super().__post_init__()`. Keywords of the class statement, inherited by its subclasses:

    Args:
        what: what an option is called in messages.
        commands: the commands that may change an option, unless it says so itself; None: all.
        groups: heading in `--help` of each group of options, by its name.

    Raises:
        TypeError, ValueError: an option is of another type, or out of range; the message names it.
    """

    _what: ClassVar[str] = "option"
    _commands: ClassVar[Collection[str] | None] = None
    _groups: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(
        cls,
        *,
        what: str | None = None,
        commands: Collection[str] | None = None,
        groups: Mapping[str, str] | None = None,
    ) -> None:
        super().__init_subclass__()
        said = {"_what": what, "_commands": commands, "_groups": groups}
        for name, value in said.items():
            if value is not None:  # else it is inherited
                setattr(cls, name, value)

    def __new__(cls, *_: Any, **options: Any) -> Self:
        cls.check_names(options)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for name, declared in options_of(type(self)).items():
            object.__setattr__(self, name, declared.held(getattr(self, name)))

    def part(self, group: str) -> dict[str, Any]:
        """The options of a group, by name, with their values."""
        of = options_of(type(self)).values()
        return {each.name: getattr(self, each.name) for each in of if each.group == group}

    def defining_parameters(self) -> dict[str, Any]:
        """The options without which the parameters would be others, by name, with their values."""
        of = options_of(type(self)).values()
        return {each.name: getattr(self, each.name) for each in of if each.defines_parameters}

    def to_dict(self) -> dict[str, Any]:
        """All options as plain values, for JSON."""
        plain = {}
        for name, declared in options_of(type(self)).items():
            value = getattr(self, name)
            kind = dict if declared.pairs else list
            plain[name] = kind(value) if isinstance(value, tuple) else value
        return plain

    @classmethod
    def from_dict(cls: type[T], options: Mapping[str, Any]) -> T:
        """The inverse of `to_dict`; what is not there has its default.

        Raises:
            TypeError: an option is unknown; the message names it, and the one that may be meant.
            TypeError, ValueError: as the class itself.
        """
        cls.check_names(options)
        return cls(**options)

    @classmethod
    def check_names(cls, options: Collection[Any]) -> None:
        """Raises a `TypeError` for an unknown option; names it, and the one that may be meant."""
        known = options_of(cls)
        for name in options:
            if name not in known:
                raise TypeError(
                    f"unknown {cls._what} {name!r}{suggest(str(name), known)}: "
                    f"use {', '.join(sorted(known))}"
                )


@functools.cache
def options_of(owner: type[Options]) -> Mapping[str, Option]:
    """The options of a class, by name, in the order of its fields."""
    hints = typing.get_type_hints(owner)
    made = {}
    for field in dataclasses.fields(owner):
        declared = field.metadata.get("option", {"commands": ()})
        annotated = {} if declared.get("pairs") else _kind(hints[field.name])
        each = Option(name=field.name, default=field.default, **annotated | dict(declared))
        inherited = owner._commands if each.commands is None else each.commands
        made[field.name] = dataclasses.replace(
            each,
            heading=owner._groups.get(each.group, ""),
            commands=None if inherited is None else (*inherited, *each.also),
        )
    return types.MappingProxyType(made)


def options_for(owner: type[Options], command: str | None) -> list[Option]:
    """The options of a class that a command may change."""
    all_of_them = options_of(owner).values()
    return [each for each in all_of_them if each.commands is None or command in each.commands]


def _kind(annotation: Any) -> dict[str, Any]:
    """What an annotation says of an option."""
    union = typing.get_origin(annotation) in (types.UnionType, typing.Union)
    said: dict[str, Any] = {}
    for member in typing.get_args(annotation) if union else (annotation,):
        args = typing.get_args(member)
        if member is type(None):
            said["optional"] = True
        elif typing.get_origin(member) is tuple:
            length = None if args[-1] is Ellipsis else len(args)
            said |= {"many": True, "length": length} | _entry(args[0])
        else:
            said |= {"single": True} | _entry(member)
    return said


def _entry(annotation: Any) -> dict[str, Any]:
    if typing.get_origin(annotation) is Literal:
        return {"choices": typing.get_args(annotation)}
    return {"kind": annotation}
