"""BiCGStab for affine `f`."""

import dataclasses
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from jax import Array

from ..._space import PyTree, Space
from .affine import AffineSolver, Apply, divide, resolution
from .books import Log, Rule


class BiCGStabState(NamedTuple):
    """Iterate `y`, residual `r`, direction `p`, `shadow` (the cycle's first r), the `best` y.

    `rho` (*batch,) is <shadow, r>.
    """

    y: PyTree
    r: PyTree
    p: PyTree
    shadow: PyTree
    rho: Array
    best: PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class BiCGStab(AffineSolver):
    """BiCGStab, for affine `f(y) = v + A y` only: short recurrences for any `A`, two products each.

    A step of biconjugate gradients, `s = r - a (I - A) p`, followed by one of least residual,
    `r <- s - w (I - A) s`. Usually needs more products than GMRES, but no basis: an iteration
    makes two products, reads or writes about twenty vectors and holds five, however long it
    runs. For long solves with large states. No transpose of `A` is needed.

    The residual may rise on the way, so the best iterate is kept. A breakdown (a vanishing inner
    product) starts a new cycle from it; if that brings nothing, the status is `STALLED`.
    `max_iter` counts products; the state after the first of a pair is an iterate too.

    Args:
        plain: plain iterations to begin with at most, for samples that converge by them.

    Source: H. A. van der Vorst, SIAM J. Sci. Stat. Comput. 13 (1992).

    Example:
        >>> import jax, jax.numpy as jnp, jdeq
        >>> a = jnp.array([[0.5, 0.4], [-0.2, 0.3]])
        >>> def loss(b):
        ...     backward = jdeq.IFT(solver=jdeq.BiCGStab(max_iter=10))
        ...     return jdeq.deq(lambda z: z @ a + b, jnp.zeros((1, 2)), backward=backward)[0].sum()
        >>> [f"{g:.3f}" for g in jax.grad(loss)(jnp.ones((1, 2)))[0]]
        ['2.558', '0.698']
    """

    PRODUCTS: ClassVar[int] = 2

    def open(self, space: Space, y: PyTree, r: PyTree) -> BiCGStabState:
        return BiCGStabState(y, r, r, r, space.dot(r, r), y)

    def advance(self, space: Space, apply: Apply, state: BiCGStabState, log: Log, rule: Rule):
        eps = resolution(state.r)
        shadow_size = space.norm(state.shadow)

        v = space.sub(state.p, apply(state.p))
        sigma, size = space.dot(state.shadow, v), space.norm(v)
        finite = jnp.isfinite(size)
        usable = finite & (jnp.abs(sigma) > eps * size * shadow_size)
        a = divide(state.rho, sigma, usable & log.active)
        y = space.add(state.y, state.p, a)
        s = space.add(state.r, v, -a)
        absolute = space.norm(s)
        log, take = rule.book(
            log, absolute, space.norm(space.add(y, s)), usable=usable, finite=finite
        )
        best = space.where(take, y, state.best)

        t = space.sub(s, apply(s))
        overlap, size = space.dot(t, s), space.norm(t)
        finite = jnp.isfinite(size)
        usable = finite & (jnp.abs(overlap) > eps * size * absolute)
        w = divide(divide(overlap, size, usable), size, usable & log.active)
        y = space.add(y, s, w)
        r = space.add(s, t, -w)
        absolute = space.norm(r)
        log, take = rule.book(
            log, absolute, space.norm(space.add(y, r)), usable=usable, finite=finite
        )
        best = space.where(take, y, best)

        rho = space.dot(state.shadow, r)
        sound = jnp.abs(rho) > eps * absolute * shadow_size
        log = log._replace(active=log.active & sound)
        b = divide(rho, state.rho, log.active) * divide(a, w, log.active)
        p = space.add(r, space.add(state.p, v, -w), b)
        p = space.where(log.active, p, state.p)
        return BiCGStabState(y, r, p, state.shadow, rho, best), log

    def close(self, space: Space, state: BiCGStabState) -> PyTree:
        return state.best
