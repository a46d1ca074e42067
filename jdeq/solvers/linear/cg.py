"""Conjugate gradients for affine `f` with a symmetric Jacobian."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from ..._space import PyTree, Space
from .affine import AffineSolver, Apply, divide, resolution
from .books import Log, Rule


class CGState(NamedTuple):
    """Iterate `y`, its residual `r` with <r, r> = `square` (*batch,), direction `p`; the `best`."""

    y: PyTree
    r: PyTree
    p: PyTree
    square: Array
    best: PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class CG(AffineSolver):
    """Conjugate gradients, for affine `f(y) = v + A y` with symmetric `A` only.

    `y <- y + a p`, `r <- r - a (p - A p)`, `p <- r + b p` with `a = <r, r> / <p, p - A p>` and
    `b` the ratio of new to old `<r, r>`. Made for `A = A^T` with all eigenvalues below 1: the
    error in the energy norm then falls as fast as in any Krylov method, like
    `((sqrt(kappa) - 1) / (sqrt(kappa) + 1))^k` with the condition number `kappa` of `I - A`.

    An iteration makes one product, reads or writes about ten vectors and holds four: less than
    any other here. Worth it where `f` is a gradient step, hence `J` symmetric. A negative
    curvature `<p, p - A p>` ends a cycle. Otherwise an unsymmetric `A` goes unnoticed until the
    residual does not fall: it is then reported as large as it is, and not `CONVERGED`.

    Args:
        plain: plain iterations to begin with at most, for samples that converge by them.

    Source: M. R. Hestenes, E. Stiefel, J. Res. Natl. Bur. Stand. 49 (1952).

    Example:
        >>> import jax, jax.numpy as jnp, jdeq
        >>> a = jnp.array([[0.5, 0.2], [0.2, 0.3]])
        >>> def loss(b):
        ...     backward = jdeq.IFT(solver="cg")
        ...     return jdeq.deq(lambda z: z @ a + b, jnp.zeros((1, 2)), backward=backward)[0].sum()
        >>> [f"{g:.3f}" for g in jax.grad(loss)(jnp.ones((1, 2)))[0]]
        ['2.903', '2.258']
    """

    def open(self, space: Space, y: PyTree, r: PyTree) -> CGState:
        return CGState(y, r, r, space.dot(r, r), y)

    def advance(self, space: Space, apply: Apply, state: CGState, log: Log, rule: Rule):
        w = space.sub(state.p, apply(state.p))
        curvature, size = space.dot(state.p, w), space.norm(w)
        finite = jnp.isfinite(size)
        usable = finite & (curvature > resolution(w) * size * space.norm(state.p))
        a = divide(state.square, curvature, usable & log.active)
        y = space.add(state.y, state.p, a)
        r = space.add(state.r, w, -a)
        square = space.dot(r, r)
        log, take = rule.book(
            log, jnp.sqrt(square), space.norm(space.add(y, r)), usable=usable, finite=finite
        )
        b = divide(square, state.square, log.active & (state.square > 0))
        p = space.where(log.active, space.add(r, state.p, b), state.p)
        return CGState(y, r, p, square, space.where(take, y, state.best)), log

    def close(self, space: Space, state: CGState) -> PyTree:
        return state.best
