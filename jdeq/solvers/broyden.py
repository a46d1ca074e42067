"""Broyden's good method, kept in compact form."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from .._space import PyTree, Space
from .base import IterativeSolver, check_int, check_tau


class BroydenState(NamedTuple):
    """`directions` is a history of d_0, d_1, ...; the matrices are `(*batch, l, l)`.

    `gram` holds <d_i, d_j>, `chain` the lower triangular matrix C with c = C D^T g (see
    `Broyden.step`), `start` (*batch,) int32 the oldest slot that still counts.
    """

    directions: PyTree
    gram: Array
    chain: Array
    start: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Broyden(IterativeSolver):
    """Broyden's "good" method on `g(z) = f(z) - z`, starting from the Jacobian `-I`.

    `z <- z + tau d`, where `d = -B g` and `B` approximates the inverse Jacobian of `g` by one
    rank-one update per step. Superlinear near a solution, exact after 2n steps on an affine map,
    and indifferent to eigenvalues of `df/dz` beyond 1: the usual choice for DEQs. Each sample has
    its own approximation.

    The update is kept by its directions alone (Kelley, *Solving Nonlinear Equations with Newton's
    Method*, ch. 4): an iteration reads the history twice and holds one vector per step, half of
    what the U V^T form needs.

    Args:
        memory: most directions kept, each a vector like `z`. None: one per iteration. When they
            are used up the approximation starts afresh from `-I`, so that it is always a true
            Broyden matrix: overwriting old directions one by one would break its secant equation.
        tau: damping of the step, in (0, 2]; the update accounts for it exactly.

    Source: C. G. Broyden, Math. Comp. 19 (1965); TorchDEQ paper, eqs. 10-12.

    Example:
        >>> import jax.numpy as jnp, jdeq
        >>> z, info = jdeq.deq(lambda z: 2 - 3 * z, jnp.zeros((4, 1)), solver="broyden")
        >>> bool(jnp.allclose(z, 0.5)), int(info.nfe)
        (True, 3)
    """

    memory: int | None = None
    tau: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_tau(self.tau)
        if self.memory is not None:
            check_int("memory", self.memory, low=1)

    def init(self, space: Space, z0: PyTree) -> BroydenState:
        size = self.max_iter + 1 if self.memory is None else min(self.memory, self.max_iter + 1)
        zero = jnp.zeros_like(space.dot(z0, z0))
        matrix = jnp.broadcast_to(zero[..., None, None], (*zero.shape, size, size))
        return BroydenState(
            space.history(z0, size), matrix, matrix, jnp.zeros_like(zero, jnp.int32)
        )

    def step(self, space: Space, k: Array, z: PyTree, fz: PyTree, state: BroydenState):
        """With mu = 1 - tau the inverse is the product of I + (d_{j+1} - mu d_j) d_j^T / |d_j|^2.

        Applied to g it gives g + sum_j c_j (d_{j+1} - mu d_j), where c solves a lower triangular
        system with right-hand side D^T g; `chain` is its inverse, grown by a row per step. The
        last factor holds the unknown d itself: d (1 - c_n) = g + sum_j w_j d_j.
        """
        mu, size = 1 - self.tau, state.gram.shape[-1]
        slot = k % size
        start = jnp.where(slot == 0, 0, state.start)
        g = space.sub(fz, z)

        p = space.dots(state.directions, g)
        index = lax.broadcasted_iota(k.dtype, p.shape, p.ndim - 1)
        kept = (index < slot) & (index >= start[..., None])
        p = jnp.where(kept, p, 0)
        c = jnp.where(kept, _apply(state.chain, p), 0)
        w = _shift(c) - mu * c
        w = jnp.where(kept, w, 0)
        divisor = 1 - jnp.sum(jnp.where(index == slot - 1, c, 0), -1)

        tiny = jnp.finfo(divisor.dtype).eps ** 0.5
        sound = (jnp.abs(divisor) > tiny) & jnp.all(jnp.isfinite(w), -1)
        inverse = jnp.where(sound, 1 / jnp.where(sound, divisor, 1), 1)
        w = jnp.where(sound[..., None], w, 0)
        d = space.scale(space.add(g, space.combine(state.directions, w)), inverse)
        start = jnp.where(sound, start, slot)  # a singular update: begin again with d = g

        square = space.dot(d, d)
        row = inverse[..., None] * (p + _apply(state.gram, w))
        row = jnp.where(kept & sound[..., None], row, 0)
        row = jnp.where(index == slot, square[..., None], row)
        link = jnp.where(kept & sound[..., None], _unshift(row) - mu * row, 0)
        link = jnp.where(index == slot, 1, _apply_left(link, state.chain))
        link = link * jnp.where(square > 0, 1 / jnp.where(square > 0, square, 1), 0)[..., None]

        return space.add(z, d, self.tau), BroydenState(
            space.write(state.directions, slot, d),
            _write_row(_write_column(state.gram, slot, row), slot, row),
            _write_row(state.chain, slot, link),
            start,
        )

    def freeze(self, space: Space, moving: Array, new: BroydenState, old: BroydenState):
        return new._replace(start=jnp.where(moving, new.start, old.start))

    def apply_transposed_inverse(
        self, space: Space, state: BroydenState, steps: Array, v: PyTree
    ) -> PyTree:
        """`-B^T v`, with `B` the inverse Jacobian of `f(z) - z` at iterate `steps` of a solve.

        Needs `memory=None`: all directions up to that iterate.
        The transposed factors I + d_j (d_{j+1} - mu d_j)^T / |d_j|^2, the latest first, give
        v + D e, where e solves the transposed triangular system: e = C^T r.
        """
        q = space.dots(state.directions, v)
        index = lax.broadcasted_iota(steps.dtype, q.shape, q.ndim - 1)
        kept = (index < steps[..., None]) & (index >= state.start[..., None])
        r = jnp.where(kept, _unshift(q) - (1 - self.tau) * q, 0)
        e = jnp.where(kept, _apply_left(r, state.chain), 0)
        return space.add(v, space.combine(state.directions, e))


def _apply(matrix: Array, vector: Array) -> Array:
    """(*batch, l, l) times (*batch, l)."""
    return jnp.einsum("...ij,...j->...i", matrix, vector, precision=lax.Precision.HIGHEST)


def _apply_left(vector: Array, matrix: Array) -> Array:
    """(*batch, l) times (*batch, l, l)."""
    return jnp.einsum("...i,...ij->...j", vector, matrix, precision=lax.Precision.HIGHEST)


def _shift(x: Array) -> Array:
    """x_{j-1} at j, 0 at the start."""
    return jnp.concatenate([jnp.zeros_like(x[..., :1]), x[..., :-1]], -1)


def _unshift(x: Array) -> Array:
    """x_{j+1} at j, 0 at the end."""
    return jnp.concatenate([x[..., 1:], jnp.zeros_like(x[..., :1])], -1)


def _write_row(matrix: Array, i: Array, row: Array) -> Array:
    return lax.dynamic_update_index_in_dim(matrix, row, i, matrix.ndim - 2)


def _write_column(matrix: Array, j: Array, column: Array) -> Array:
    return lax.dynamic_update_index_in_dim(matrix, column, j, matrix.ndim - 1)
