"""Buffers that fill up by an entry per iteration: work on the filled part alone.

On a CPU the unfilled part is neither read nor written, so that a solve of ten iterations costs as
much with room for a hundred. On an accelerator the host has to be asked for a branch, which takes
longer than to read `WORTH_ASKING` bytes: only larger parts are left out there.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array, lax

FIRST = 8
WORTH_ASKING = 2**27  # bytes; a GPU reads them in 30 to 60 us, an answer takes 10 to 20


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
    """`compute(*args)`, or `skip(*args)`, the same in less time, if not `needed`.

    On an accelerator `skip` is for arguments of more than `WORTH_ASKING` bytes.
    """
    branch = lambda *args: lax.cond(needed, compute, skip, *args)
    # the batch of an exported function may have any size
    nbytes = [a.size * a.dtype.itemsize for a in jax.tree.leaves(args)]
    if all(isinstance(n, int) for n in nbytes) and sum(nbytes) > WORTH_ASKING:
        return branch(*args)
    return lax.platform_dependent(*args, cpu=branch, default=compute)


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
