"""Small matrices, one per sample, as plain batched arithmetic.

Calls of LAPACK or cuSOLVER on 6 x 6 systems cost more than what they serve, and do not shard.
"""

import jax.numpy as jnp
from jax import Array, lax

from ..._space import put

UNROLLED = 9  # unknowns: entry by entry takes a third of the time, but longer to compile


def solve_spd(matrix: Array, rhs: Array, *, dependent: float) -> Array:
    """Solves systems with a symmetric positive definite matrix of unit diagonal.

    Eliminates in order: unknowns whose pivot is below `dependent` depend on earlier ones and are
    set to 0, so the answer is always finite.

    Args:
        matrix: (*batch, n, n).
        rhs: (*batch, n).
        dependent: smallest pivot that counts.
    """
    size = rhs.shape[-1]
    if size <= UNROLLED:
        return _solve_entrywise(matrix, rhs, dependent)
    system = jnp.concatenate([matrix, rhs[..., None]], -1)
    sound = []
    for j in range(size):
        pivot = system[..., j, j]
        sound.append(pivot > dependent)
        system = _eliminate(system, j, pivot, sound[j])
    return jnp.where(jnp.stack(sound, -1), system[..., -1], 0)


def _solve_entrywise(matrix: Array, rhs: Array, dependent: float) -> Array:
    """`solve_spd` by L D L^T, entry by entry: XLA makes a few loops over the samples of it."""
    size = rhs.shape[-1]
    a = {(i, j): matrix[..., i, j] for i in range(size) for j in range(i + 1)}
    x = [rhs[..., i] for i in range(size)]
    lower, inverse = {}, []
    for j in range(size):
        sound = a[j, j] > dependent
        inverse.append(jnp.where(sound, 1 / jnp.where(sound, a[j, j], 1), 0))
        for i in range(j + 1, size):
            lower[i, j] = a[i, j] * inverse[j]
            for k in range(j + 1, i + 1):
                a[i, k] -= lower[i, j] * a[k, j]
            x[i] -= lower[i, j] * x[j]
    for j in reversed(range(size)):
        x[j] *= inverse[j]
        for i in range(j + 1, size):
            x[j] -= lower[i, j] * x[i]
    return jnp.stack(x, -1)


def solve_general(matrix: Array, rhs: Array) -> Array:
    """Solves systems with any matrix, by elimination with row exchanges after scaling.

    Unknowns left without a usable pivot are set to 0, so the answer is always finite.

    Args:
        matrix: (*batch, n, n).
        rhs: (*batch, n).
    """
    size = rhs.shape[-1]
    dependent = 8 * size * float(jnp.finfo(rhs.dtype).eps)
    rows = _inverse_or_zero(jnp.max(jnp.abs(matrix), -1))
    matrix = matrix * rows[..., None]
    columns = _inverse_or_zero(jnp.max(jnp.abs(matrix), -2))
    matrix = matrix * columns[..., None, :]
    system = jnp.concatenate([matrix, (rhs * rows)[..., None]], -1)
    index = lax.broadcasted_iota(jnp.int32, rhs.shape, rhs.ndim - 1)
    sound = []
    for j in range(size):
        size_of = jnp.where(index >= j, jnp.abs(system[..., :, j]), -1)
        best = jnp.argmax(size_of, -1, keepdims=True).astype(jnp.int32)
        # exchange rows j and best
        row = jnp.sum(jnp.where((index == best)[..., None], system, 0), -2)
        system = jnp.where((index == best)[..., None], system[..., j, None, :], system)
        system = jnp.where((index == j)[..., None], row[..., None, :], system)
        pivot = system[..., j, j]
        sound.append(jnp.abs(pivot) > dependent)
        system = _eliminate(system, j, pivot, sound[j])
    return columns * jnp.where(jnp.stack(sound, -1), system[..., -1], 0)


def _eliminate(system: Array, j: int, pivot: Array, sound: Array) -> Array:
    """Clears column j outside row j, whose pivot becomes 1; nothing happens if not `sound`."""
    row = system[..., j, :] * jnp.where(sound, 1 / jnp.where(sound, pivot, 1), 0)[..., None]
    column = system[..., :, j, None].at[..., j, :].set(0)
    system = system - column * row[..., None, :]
    return system.at[..., j, :].set(jnp.where(sound[..., None], row, system[..., j, :]))


def _inverse_or_zero(x: Array) -> Array:
    return jnp.where(x > 0, 1 / jnp.where(x > 0, x, 1), 0)


def over_square(x: Array, square: Array) -> Array:
    """`x / square`, 0 where `square` is 0.

    Divides twice by the root: the derivative of `1 / square` overflows for small steps.
    """
    root = jnp.sqrt(jnp.where(square > 0, square, 1))
    return jnp.where(square > 0, x / root / root, 0)


def matvec(matrix: Array, vector: Array) -> Array:
    """(*batch, m, n) times (*batch, n)."""
    return jnp.einsum("...ij,...j->...i", matrix, vector, precision=lax.Precision.HIGHEST)


def vecmat(matrix: Array, vector: Array) -> Array:
    """(*batch, m) times (*batch, m, n), the matrix given first as in `matvec`."""
    return jnp.einsum("...i,...ij->...j", vector, matrix, precision=lax.Precision.HIGHEST)


def shift(x: Array) -> Array:
    """x_{j-1} at j, 0 at the start."""
    return jnp.concatenate([jnp.zeros_like(x[..., :1]), x[..., :-1]], -1)


def unshift(x: Array) -> Array:
    """x_{j+1} at j, 0 at the end."""
    return jnp.concatenate([x[..., 1:], jnp.zeros_like(x[..., :1])], -1)


def write_row(matrix: Array, i: Array, row: Array) -> Array:
    """The matrix with `row` at i, the same for all samples."""
    return put(matrix, row, i, matrix.ndim - 2)


def write_column(matrix: Array, j: Array, column: Array) -> Array:
    """The matrix with `column` at j, the same for all samples."""
    return put(matrix, column, j, matrix.ndim - 1)
