"""Which of many parameters the tests go through each time."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

EXHAUSTIVE = (pytest.mark.slow, pytest.mark.exhaustive)


def some_of(values: Iterable[Any], kept: Iterable[Any]) -> list[Any]:
    """Parameters of which `make test` tries the `kept` ones, `make exhaustive` the others.

    Of a mapping the keys are kept, and name the values.
    """
    kept = list(kept)
    pairs = values.items() if isinstance(values, Mapping) else [(None, v) for v in values]
    params, left = [], set(kept)
    for name, value in pairs:
        key = value if name is None else name
        left.discard(key)
        params.append(pytest.param(value, id=name, marks=() if key in kept else EXHAUSTIVE))
    assert not left, f"no parameters: {left}"
    return params
