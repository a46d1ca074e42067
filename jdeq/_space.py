"""Pytrees as vectors, one vector per sample: the algebra that solvers are written in."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from ._lanes import any_of, largest_of
from ._method import is_one

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Space:
    """Vectors are pytrees of floating arrays `(*batch, *features)`, scalars arrays `(*batch,)`.

    The leading `batch_dims` axes of every leaf count the samples; a sample's vector is
    everything at one index of them, over all leaves. Leaves are never concatenated or
    reshaped, so their sharding survives. Sums run in float32 at least, whatever the leaves hold.

    A *history* holds `size` vectors: leaves `(*batch, size, *features)`, of a dtype of its own,
    where narrower vectors take less memory and time to read.

    Under `shard_map`, or `vmap` with an `axis_name`, the vector of a sample may be split over
    `axes`: its entries are those of all devices, or lanes, and sums run over them. Along the axes
    `in_step` lie samples of their own whose solves have to make the same number of iterations.

    Vectors that are scaled already are of `ordinary` size: their squares are in range.
    """

    batch_dims: int
    axes: tuple[str, ...] = ()
    in_step: tuple[str, ...] = ()
    ordinary: bool = False

    def batch_shape(self, x: PyTree) -> tuple[int, ...]:
        return jax.tree.leaves(x)[0].shape[: self.batch_dims]

    @property
    def unsplit(self) -> "Space":
        """The algebra for vectors of which every device, or lane, has all, such as small ones."""
        return dataclasses.replace(self, axes=())

    def dimension(self, x: PyTree) -> int | None:
        """Entries of a sample's vector; None if an exported function leaves them open."""
        features = sum(math.prod(a.shape[self.batch_dims :]) for a in jax.tree.leaves(x))
        total = features * math.prod(lax.axis_size(name) for name in self.axes)
        return total if isinstance(total, int) else None

    def dot(self, x: PyTree, y: PyTree) -> Array:
        """<x, y> of each sample."""
        return self._sum_leaves(jax.tree.map(lambda a, b: self._contract(a, b, 0), x, y))

    def norm(self, x: PyTree) -> Array:
        """2-norm of each sample; its derivative at 0 is 0.

        Right from the smallest to the largest number of the dtype, though their squares are not in
        its range: samples for which that matters are summed again, scaled by a power of two (Blue,
        ACM TOMS 4, 1978).
        """
        return _norms(self, _itself, x)[0]

    def gap_and_norm(self, x: PyTree, y: PyTree) -> tuple[Array, Array]:
        """||y - x||, subtracted as precisely as it is summed, and ||y||, of each sample."""
        gap, norm = _norms(self, _gap_and_second, x, y)
        return gap, norm

    def distance(self, x: PyTree, y: PyTree) -> Array:
        """||x - y|| of each sample, subtracted as precisely as it is summed."""
        return self.gap_and_norm(y, x)[0]

    def distance_where(self, mask: Array, x: PyTree, y: PyTree, unit: Array) -> Array:
        """||x - y|| / unit of the samples where `mask` holds; of others that, or 0.

        `unit` (*batch,) is about the size of `x`: so the squares are in range.
        """

        def distance(x: PyTree, y: PyTree) -> Array:
            gap, _ = _gap_and_second(y, x)
            gap = self.scale(gap, 1 / jnp.where(unit > 0, unit, 1))
            return jnp.sqrt(self.dot(gap, gap))

        return self._cond(mask, distance, lambda *_: jnp.zeros_like(unit), x, y)

    def add(self, x: PyTree, y: PyTree, scale: ArrayLike = 1) -> PyTree:
        """x + scale * y, where `scale` is a number or one number per sample."""

        def leaf(a: Array, b: Array) -> Array:
            wide = accumulator(a)
            s = self._spread(jnp.asarray(scale, wide), a)
            return (a.astype(wide) + s * b.astype(wide)).astype(a.dtype)

        return jax.tree.map(leaf, x, y)

    def damp(self, z: PyTree, fz: PyTree, tau: float | Array) -> PyTree:
        """z + tau (fz - z): a step of the length `tau`, a number or one number per sample."""
        if is_one(tau):
            return fz
        return self.add(z, self.sub(fz, z), tau)

    def sub(self, x: PyTree, y: PyTree) -> PyTree:
        """x - y."""
        return jax.tree.map(lambda a, b: a - b, x, y)

    def scale(self, x: PyTree, factor: Array) -> PyTree:
        """factor * x, one factor per sample."""

        def leaf(a: Array) -> Array:
            wide = accumulator(a)
            return (self._spread(factor.astype(wide), a) * a.astype(wide)).astype(a.dtype)

        return jax.tree.map(leaf, x)

    def where(self, mask: Array, x: PyTree, y: PyTree) -> PyTree:
        """x for the samples where `mask` holds, y for the others."""
        return jax.tree.map(lambda a, b: jnp.where(self._spread(mask, a), a, b), x, y)

    def is_finite(self, x: PyTree) -> Array:
        """Whether all of a sample's entries are finite."""
        n = self.batch_dims
        leaves = [jnp.all(jnp.isfinite(a), tuple(range(n, a.ndim))) for a in jax.tree.leaves(x)]
        finite = functools.reduce(jnp.logical_and, leaves)
        return lax.pmin(finite.astype(jnp.int32), self.axes) > 0 if self.axes else finite

    def any(self, mask: Array) -> Array:
        """Whether `mask` holds for any of the samples that are solved together."""
        return any_of(mask, self.in_step)

    def largest(self, x: Array) -> Array:
        """The largest of integers >= 0, of all samples that are solved together."""
        return largest_of(x, self.in_step)

    def history(self, x: PyTree, size: int, dtype: str | None = None) -> PyTree:
        """`size` zero vectors like `x`, or of another `dtype`."""

        def leaf(a: Array) -> Array:
            zeros = jnp.expand_dims(jnp.zeros_like(a, dtype), self.batch_dims)
            shape = (*a.shape[: self.batch_dims], size, *a.shape[self.batch_dims :])
            return jnp.broadcast_to(zeros, shape)

        return jax.tree.map(leaf, x)

    def write(self, history: PyTree, slot: Array, x: PyTree) -> PyTree:
        """The history with `x` in `slot`, the same one for all samples."""
        axis = self.batch_dims
        return jax.tree.map(
            lambda h, a: put(h, a.astype(h.dtype), slot, axis),
            history,
            x,
        )

    def rounded(self, x: PyTree, history: PyTree) -> PyTree:
        """`x` as the history will hold it."""
        return jax.tree.map(lambda a, h: a.astype(h.dtype).astype(a.dtype), x, history)

    def read(self, history: PyTree, slot: Array) -> PyTree:
        """The vector in `slot`, the same one for all samples."""
        axis = self.batch_dims
        return jax.tree.map(lambda h: pick(h, slot, axis), history)

    def dots(self, history: PyTree, x: PyTree) -> Array:
        """<h_j, x> of each vector in the history: `(*batch, size)`."""
        contract = lambda h, a: self._contract(h.astype(a.dtype), a, 1)
        return self._sum_leaves(jax.tree.map(contract, history, x))

    def combine(self, history: PyTree, weights: Array) -> PyTree:
        """sum_j weights_j h_j, with `weights` of shape `(*batch, size)`."""
        total = self.accumulate(history, weights)
        return jax.tree.map(lambda a, h: a.astype(h.dtype), total, history)

    def accumulate(self, history: PyTree, weights: Array) -> PyTree:
        """As `combine`, in float32 or better."""
        n = self.batch_dims
        axes = tuple(range(n))

        def leaf(h: Array) -> Array:
            wide = accumulator(h)
            return lax.dot_general(
                weights.astype(wide),
                h.astype(wide),
                (((n,), (n,)), (axes, axes)),
                precision=lax.Precision.HIGHEST,
            )

        return jax.tree.map(leaf, history)

    def _cond(self, mask: Array, work: Callable, spare: Callable, *operands: PyTree) -> Any:
        """`work` if it is needed by any sample of `mask`, or anyway where that is no question."""
        if self.axes:  # no device may branch alone
            return work(*operands)
        branch = lambda *xs: lax.cond(any_of(mask), work, spare, *xs)
        # an accelerator works rather than ask
        return lax.platform_dependent(*operands, cpu=branch, default=work)

    def _contract(self, a: Array, b: Array, history_axes: int) -> Array:
        """Sums a * b over the feature axes; `a` has `history_axes` more axes than `b`."""
        n = self.batch_dims
        features_a = tuple(range(n + history_axes, a.ndim))
        features_b = tuple(range(n, b.ndim))
        return lax.dot_general(
            a,
            b,
            ((features_a, features_b), (tuple(range(n)), tuple(range(n)))),
            precision=lax.Precision.HIGHEST,
            preferred_element_type=accumulator(b),
            out_sharding=_unsharded_features(a, n, history_axes),
        )

    def _sum_leaves(self, tree: PyTree) -> Array:
        leaves = jax.tree.leaves(tree)
        wide = accumulator(*leaves)
        return functools.reduce(jnp.add, (self._across(x.astype(wide)) for x in leaves))

    def _across(self, x: Array) -> Array:
        """Sums over the parts of a sample's vector that lie elsewhere."""
        axes = tuple(name for name in self.axes if may_differ(x, name))
        return lax.psum(x, axes) if axes else x

    def _spread(self, per_sample: Array, like: Array) -> Array:
        """(*batch,) -> (*batch, 1, ..., 1), to broadcast against `like`; scalars pass."""
        if per_sample.ndim == 0:
            return per_sample
        return lax.expand_dims(per_sample, range(self.batch_dims, like.ndim))


@functools.partial(jax.jit, static_argnums=(0, 1), inline=True)  # eager calls compile it once
def _norms(space: Space, vectors: Callable[..., tuple[PyTree, ...]], *operands: PyTree) -> Array:
    """The norms of `vectors(*operands)`, in a row: (n, *batch)."""

    def squares(*operands: PyTree) -> Array:
        return jnp.stack([space.dot(x, x) for x in vectors(*operands)])

    def scaled(*operands: PyTree) -> Array:
        wide = lambda x: jax.tree.map(lambda a: a.astype(plain.dtype), x)
        xs = zip(vectors(*operands), factors, strict=True)
        scaled = [space.scale(wide(x), factor) for x, factor in xs]
        return jnp.stack([space.dot(x, x) for x in scaled])

    plain = squares(*operands)
    if space.ordinary:
        return _root(plain)
    known, limits = lax.stop_gradient(plain), jnp.finfo(plain.dtype)
    low, high = known < limits.tiny / limits.eps, ~(known <= limits.max)
    power = 2.0 ** (limits.maxexp // 2 - 1)  # XLA may square it
    factors = jnp.where(low, power, jnp.where(high, 1 / power, 1)).astype(plain.dtype)
    total = space._cond(low | high, scaled, lambda *_: plain, *operands)
    return _root(total) / factors


def _itself(x: PyTree) -> tuple[PyTree]:
    return (x,)


def _gap_and_second(x: PyTree, y: PyTree) -> tuple[PyTree, PyTree]:
    gap = lambda a, b: b.astype(accumulator(a)) - a.astype(accumulator(a))
    return jax.tree.map(gap, x, y), y


def _root(square: Array) -> Array:
    """The square root, with derivative 0 at 0."""
    zero = square == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)))


def pick(x: Array, index: ArrayLike, axis: int) -> Array:
    """`x[..., index, ...]` of one axis; `index` is in range, so that no kernel need see to it."""
    return lax.dynamic_index_in_dim(
        x, jnp.asarray(index), axis, keepdims=False, allow_negative_indices=False
    )


def put(x: Array, value: Array, index: ArrayLike, axis: int) -> Array:
    """`x` with `value` at `index` of one axis; `index` is in range."""
    return lax.dynamic_update_index_in_dim(
        x, value, jnp.asarray(index), axis, allow_negative_indices=False
    )


def may_differ(x: Array, axis: str) -> bool:
    """Whether `x` may be another along an axis; True where JAX does not keep account of it."""
    varying = lambda x: axis in jax.typeof(x).mat.varying
    return varying(x) or not varying(lax.axis_index(axis))


def accumulator(*xs: Array) -> jnp.dtype:
    """The dtype in which sums over `xs` run: float64 if one of them is, else float32."""
    wide = any(x.dtype == jnp.float64 for x in xs)
    return jnp.dtype(jnp.float64 if wide else jnp.float32)


def _unsharded_features(a: Array, batch_dims: int, history_axes: int) -> Any:
    """Sharding of a contraction over sharded features; Explicit mesh axes want it spelled out."""
    sharding = jax.typeof(a).sharding
    spec = tuple(sharding.spec)
    if not any(s is not None for s in spec[batch_dims + history_axes :]):
        return None
    return jax.NamedSharding(sharding.mesh, jax.P(*spec[: batch_dims + history_axes]))
