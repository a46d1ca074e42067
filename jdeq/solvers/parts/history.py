"""A long history of vectors, read only as far as it is filled."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ..._space import PyTree, Space
from .filled import cuts, if_filled

# bytes up to which a history stays whole: what a core has at hand is read faster than it is cut,
# and an accelerator reads more in the time that the kernels for further parts take
WHOLE, WHOLE_ON_ACCELERATORS = 2**20, 2**28
LANES = 1024  # a single system may be one of so many in a `vmap`, which nobody tells


class History(NamedTuple):
    """`size` vectors in chunks, each a history of `Space`; see `filled`."""

    chunks: tuple[PyTree, ...]

    @classmethod
    def empty(cls, space: Space, x: PyTree, size: int, dtype: str | None = None) -> "History":
        """`size` zero vectors like `x`, or of another `dtype`."""
        nbytes = [size * a.size * np.dtype(dtype or a.dtype).itemsize for a in jax.tree.leaves(x)]
        # the batch of an exported function may have any size
        whole = WHOLE if jax.default_backend() == "cpu" else WHOLE_ON_ACCELERATORS
        whole = whole if space.batch_dims else whole // LANES
        small = all(isinstance(n, int) and n <= whole for n in nbytes)
        ends = (size,) if small else cuts(size)
        sizes = (end - start for start, end in zip((0, *ends), ends, strict=False))
        return cls(tuple(space.history(x, n, dtype) for n in sizes))

    def write(self, space: Space, slot: Array, x: PyTree) -> "History":
        """The history with `x` in `slot`, the same one for all samples."""

        if len(self.chunks) == 1:
            return History((space.write(self.chunks[0], slot, x),))
        return History(
            tuple(
                lax.platform_dependent(
                    chunk,
                    x,
                    slot - start,
                    cpu=functools.partial(_write_by_branch, space, stop - start),
                    default=functools.partial(_write_masked, space, stop - start),
                )
                for start, stop, chunk in self._bounded(space)
            )
        )

    def dots(self, space: Space, x: PyTree, filled: Array | None = None) -> Array:
        """<h_j, x> of the vectors, `(*batch, size)`; anything from slot `filled` on."""

        def nothing(history: PyTree, x: PyTree) -> Array:
            zero = jnp.zeros_like(space.dot(x, x))[..., None]
            return jnp.broadcast_to(zero, (*zero.shape[:-1], _size(space, history)))

        return jnp.concatenate(
            [
                if_filled(filled, start, space.dots, nothing, chunk, x)
                for start, _, chunk in self._bounded(space)
            ],
            -1,
        )

    def leaf(self, index: int) -> "History":
        """The history of one entry of the vectors, which are tuples."""
        return History(tuple(chunk[index] for chunk in self.chunks))

    def rounded(self, space: Space, x: PyTree) -> PyTree:
        """`x` as the history will hold it."""
        return space.rounded(x, self.chunks[0])

    def accumulate(self, space: Space, weights: Array, filled: Array | None = None) -> PyTree:
        """sum_j weights_j h_j in float32 or better; weights from slot `filled` on must be 0."""
        (_, stop, first), *others = self._bounded(space)
        total = space.accumulate(first, weights[..., :stop])

        def more(total: PyTree, history: PyTree, weights: Array) -> PyTree:
            return jax.tree.map(jnp.add, total, space.accumulate(history, weights))

        for start, stop, chunk in others:
            part = weights[..., start:stop]
            skip = lambda total, *_: total
            total = if_filled(filled, start, more, skip, total, chunk, part)
        return total

    def _bounded(self, space: Space) -> list[tuple[int, int, PyTree]]:
        """First slot, the slot after the last, and the chunk."""
        out, start = [], 0
        for chunk in self.chunks:
            stop = start + _size(space, chunk)
            out.append((start, stop, chunk))
            start = stop
        return out


def slot_of(k: Array, size: int) -> Array:
    """Where entry k >= 0 stands in a buffer that is written round and round."""
    return lax.rem(k, jnp.full_like(k, size))


def _size(space: Space, history: PyTree) -> int:
    return jax.tree.leaves(history)[0].shape[space.batch_dims]


def _write_by_branch(space: Space, size: int, chunk: PyTree, x: PyTree, slot: Array) -> PyTree:
    """The chunk of `size` vectors with `x` in `slot`, if that is one of its own."""
    write = lambda chunk, x, slot: space.write(chunk, slot, x)
    return lax.cond((slot >= 0) & (slot < size), write, lambda chunk, *_: chunk, chunk, x, slot)


def _write_masked(space: Space, size: int, chunk: PyTree, x: PyTree, slot: Array) -> PyTree:
    """The same without a branch: writes a vector back that was there."""
    nearest = jnp.clip(slot, 0, size - 1)
    kept = space.read(chunk, nearest)
    own = slot == nearest
    x = jax.tree.map(lambda a, h: jnp.where(own, a.astype(h.dtype), h), x, kept)
    return space.write(chunk, nearest, x)
