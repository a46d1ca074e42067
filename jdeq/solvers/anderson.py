"""Anderson acceleration (type II)."""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from .._space import PyTree, Space
from .base import IterativeSolver, check_int, check_tau


class AndersonState(NamedTuple):
    """Differences between successive iterates, in a ring of `m - 1` slots.

    `moves` holds the change of z + tau g, `changes` the change of g = f(z) - z. `gram`
    `(*batch, m - 1, m - 1)` holds <changes_i, changes_j>, newest first. `z`, `g`: the last iterate.
    """

    moves: PyTree
    changes: PyTree
    gram: Array
    z: PyTree
    g: PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class Anderson(IterativeSolver):
    """Anderson acceleration, type II: mixes the last `m` iterates so as to shrink the residual.

    `z <- sum_i a_i (z_i + tau g_i)`, where `a` minimises `|sum_i a_i g_i|` among weights that sum
    to 1. In the usual naming (Fang & Saad 2009) this is type II, equivalent to GMRES on an affine
    map; the TorchDEQ paper calls the same formula type I.

    An iteration reads two histories of `m - 1` vectors once or twice each, and holds them. It is
    worked out in differences of successive iterates, with one new row of their Gram matrix per
    iteration. A first step is the plain `f(z0)` (Walker & Ni 2011).

    Args:
        m: how many iterates are mixed, the current one included; 1 is damped iteration.
        lam: regularisation of the least squares problem.
        lam_mode: `"relative"` adds `lam` times its own diagonal to the Gram matrix of the
            differences, so that rescaling `z` changes nothing and the residual can fall as far as
            the dtype goes. `"absolute"` adds `lam |a|^2` to the objective, as TorchDEQ does; once
            residuals are below `sqrt(lam)` that turns the mixing into plain averaging.
        tau: damping, in (0, 2].

    A difference that depends linearly on newer ones is left out, so the small system is never
    singular.

    Source: D. G. Anderson, J. ACM 12 (1965); TorchDEQ paper, eqs. 8-9.

    Example:
        >>> import jax.numpy as jnp, jdeq
        >>> solver = jdeq.Anderson(m=4, max_iter=30)
        >>> z, info = jdeq.deq(lambda z: jnp.cos(z), jnp.zeros((2, 3)), solver=solver)
        >>> bool(info.converged.all())
        True
    """

    m: int = 6
    lam: float | None = None
    lam_mode: Literal["relative", "absolute"] = "relative"
    tau: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("m", self.m, low=1)
        check_tau(self.tau)
        if self.lam is not None and not self.lam >= 0:
            raise ValueError(f"lam must be >= 0, got {self.lam!r}")
        if self.lam_mode not in ("relative", "absolute"):
            raise ValueError(f"lam_mode must be 'relative' or 'absolute', got {self.lam_mode!r}")

    def init(self, space: Space, z0: PyTree) -> AndersonState:
        zeros = jax.tree.map(jnp.zeros_like, z0)
        history = space.history(z0, self.m - 1)
        zero = jnp.zeros_like(space.dot(z0, z0))
        gram = jnp.broadcast_to(zero[..., None, None], (*zero.shape, self.m - 1, self.m - 1))
        return AndersonState(history, history, gram, zeros, zeros)

    def step(self, space: Space, k: Array, z: PyTree, fz: PyTree, state: AndersonState):
        g = space.sub(fz, z)
        plain = space.add(z, g, jnp.where(k == 0, 1, self.tau)) if self.tau != 1 else fz
        if self.m == 1:
            return plain, state
        change = space.sub(g, state.g)
        move = space.add(space.sub(z, state.z), change, self.tau)

        size = self.m - 1
        slot = (k - 1) % size
        age = jnp.arange(size, dtype=k.dtype)
        newest_first = (slot - age) % size  # its own inverse
        moves = space.write(state.moves, slot, move)
        changes = space.write(state.changes, slot, change)
        gram = _grow(state.gram, space.dots(changes, change)[..., newest_first])
        rhs = space.dots(changes, g)[..., newest_first]

        gamma = self._weights(gram, rhs, jnp.minimum(k, size))[..., newest_first]
        z_next = space.sub(plain, space.combine(moves, gamma))
        return z_next, AndersonState(moves, changes, gram, z, g)

    def _weights(self, gram: Array, rhs: Array, filled: Array) -> Array:
        """gamma = argmin |g - sum_j gamma_j change_j|, regularised; of the `filled` newest."""
        size, dtype = rhs.shape[-1], rhs.dtype
        eps = float(jnp.finfo(dtype).eps)
        row = lax.broadcasted_iota(filled.dtype, gram.shape, gram.ndim - 2)
        column = lax.broadcasted_iota(filled.dtype, gram.shape, gram.ndim - 1)
        if self.lam_mode == "relative":
            ridge = eps if self.lam is None else self.lam
        else:  # |a|^2 in terms of gamma: a = (1 - gamma_0, gamma_0 - gamma_1, ..., gamma_last)
            ridge, lam = 0.0, 1e-4 if self.lam is None else self.lam
            gram = gram + lam * (
                2 * (row == column).astype(dtype) - (jnp.abs(row - column) == 1).astype(dtype)
            )
            rhs = rhs.at[..., 0].add(lam)
        gram = jnp.where((row < filled) & (column < filled), gram, 0)
        rhs = jnp.where(row[..., 0] < filled, rhs, 0)
        diagonal = jnp.diagonal(gram, axis1=-2, axis2=-1)
        scale = jnp.where(diagonal > 0, lax.rsqrt(jnp.where(diagonal > 0, diagonal, 1)), 0)
        unit = gram * scale[..., None] * scale[..., None, :]
        unit = unit + ridge * (row == column).astype(dtype)
        return scale * _solve_spd(unit, scale * rhs, dependent=4 * size * eps)


def _grow(gram: Array, row: Array) -> Array:
    """The Gram matrix, newest first, with `row` for the newest vector and without the oldest."""
    below = jnp.concatenate([row[..., 1:, None], gram[..., :-1, :-1]], -1)
    return jnp.concatenate([row[..., None, :], below], -2)


def _solve_spd(matrix: Array, rhs: Array, *, dependent: float) -> Array:
    """Solves small systems with unit diagonal, by elimination in order.

    Written out as arithmetic on whole batches: calls of LAPACK or cuSOLVER on 6 x 6 systems cost
    more than the mixing itself, and do not shard. Unknowns whose pivot is below `dependent` are
    set to 0.
    """
    size = rhs.shape[-1]
    system = jnp.concatenate([matrix, rhs[..., None]], -1)
    sound = []
    for j in range(size):
        pivot = system[..., j, j]
        good = pivot > dependent
        row = system[..., j, :] * jnp.where(good, 1 / jnp.where(good, pivot, 1), 0)[..., None]
        column = system[..., :, j, None].at[..., j, :].set(0)
        system = (system - column * row[..., None, :]).at[..., j, :].set(row)
        sound.append(good)
    return jnp.where(jnp.stack(sound, -1), system[..., -1], 0)
