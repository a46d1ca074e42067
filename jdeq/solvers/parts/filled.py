"""Buffers that fill up by an entry per iteration: work on the filled part alone.

On a CPU the unfilled part is neither read nor written, so that a solve of ten iterations costs as
much with room for a hundred. On other devices a branch costs more than what it saves there.
"""

from collections.abc import Callable
from typing import Any

from jax import Array, lax

FIRST = 8


def cuts(size: int) -> tuple[int, ...]:
    """Where a buffer of `size` entries is cut into parts: `8, 26, 64, ..., size`.

    Parts more than double, so that few of them, each of which takes time to compile, make up a long
    buffer. No two have the same size: XLA would make their zeros once and copy them.
    """
    ends, part = [], FIRST
    while not ends or size - ends[-1] > part // 2:
        ends.append((ends[-1] if ends else 0) + part)
        part = 2 * part + 2
    return (*ends[:-1], size)


def if_needed(
    needed: Array, compute: Callable[..., Any], skip: Callable[..., Any], *args: Any
) -> Any:
    """`compute(*args)`, or, on a CPU, `skip(*args)`, the same in less time, if not `needed`."""
    return lax.platform_dependent(
        *args, cpu=lambda *args: lax.cond(needed, compute, skip, *args), default=compute
    )


def if_filled(
    filled: Array | None,
    start: int,
    compute: Callable[..., Any],
    skip: Callable[..., Any],
    *args: Any,
) -> Any:
    """As `if_needed`, where more than `start` entries are filled.

    What begins at 0 is computed in any case.
    """
    if filled is None or start == 0:
        return compute(*args)
    return if_needed(filled > start, compute, skip, *args)
