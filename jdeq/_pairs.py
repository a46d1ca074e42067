"""Options of something else, a solver, as sorted pairs: hashable, and a word on a command line."""

import ast
from collections.abc import Mapping
from typing import Any

Pairs = tuple[tuple[str, Any], ...]
WORDS = {"true": True, "false": False, "none": None}


def parse_pairs(name: str, value: Any) -> Pairs:
    """Sorted pairs from `"m=5,lam=1e-4"`, a mapping or pairs.

    Raises:
        ValueError, TypeError: it is nothing of the kind; the message begins with `name`.
    """
    usage = f"{name} takes options such as 'm=5,lam=1e-4', or a dict, got {value!r}"
    if isinstance(value, str):
        words = [word.partition("=") for word in value.split(",") if word.strip()]
        if not all(key.strip() and text.strip() for key, _, text in words):
            raise ValueError(usage)
        value = [(key.strip(), _literal(text.strip())) for key, _, text in words]
    try:
        pairs = list(value.items() if isinstance(value, Mapping) else value)
        made = dict(pairs)
    except (TypeError, ValueError):
        raise TypeError(usage) from None
    if len(made) < len(pairs):
        raise ValueError(f"{name} sets an option twice: {pairs}")
    for key, each in made.items():
        if not isinstance(key, str) or not isinstance(each, bool | int | float | str | None):
            raise TypeError(f"{name}: {key}={each!r} is not a number, a word, True, False or None")
    return tuple(sorted(made.items()))


def format_pairs(pairs: Pairs) -> str:
    """The inverse of `parse_pairs`."""
    return ",".join(f"{key}={value}" for key, value in pairs)


def _literal(text: str) -> Any:
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
