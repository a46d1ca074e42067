"""GMRES for affine `f`."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from ..._checks import check_int
from ..._space import PyTree, Space, put
from ..parts.filled import if_needed
from ..parts.history import History
from .affine import AffineSolver, Apply, divide, resolution
from .books import Log, Rule

CANCELLED = 0.5  # what is left of a norm when rounding errors count in the rest
FULL = 32  # basis vectors where nobody says: few solves need more, and they are all held


class GMRESState(NamedTuple):
    """A cycle from `y`: y + sum_j weights_j q_j after k products.

    `basis` is the history of q_0, ..., q_{k-1}, `q` the next one. `rotations` holds the rows of the
    product of the Givens rotations but the last, which is `left` (*batch, m+1), `inverse` the
    columns (*batch, m) of the inverse of the triangular factor; `weights` is (*batch, m), `beta`
    (*batch,) the norm of the start's residual; `shares` (*batch, m) holds <q_j, y> and `square`
    (*batch,) <y, y>.
    """

    k: Array
    y: PyTree
    basis: History
    q: PyTree
    rotations: History
    left: Array
    inverse: History
    weights: Array
    beta: Array
    shares: Array
    square: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class GMRES(AffineSolver):
    """GMRES(m), for affine `f(y) = v + A y` only: the least residual in the Krylov space.

    After k products `y = y_0 + Q_k c` minimises `||v - (I - A) y||`, where `Q_k` is an orthonormal
    basis of `span(r, A r, ..., A^{k-1} r)` and `r` the residual of `y_0`. The residual never rises;
    without restarts it vanishes after at most n products, for any invertible `I - A`, whatever the
    eigenvalues of `A`. The robust choice for implicit gradients.

    An iteration makes one product and reads the basis twice, or four times where the first
    Gram-Schmidt, two matrix products, leaves less than half of the norm of `A q` and is done again:
    as orthogonal as the modified kind, which needs k reductions. Holds `restart` + 1 vectors.
    Rotations and the triangular system are small per-sample arrays.

    Args:
        plain: plain iterations to begin with at most, for samples that converge by them; `"auto"`
            backward is `GMRES(max_iter=100, plain=50)`.
        restart: basis vectors before the cycle starts again from its outcome, which saves memory
            and may slow the solve down or stall it; None: `min(max_iter, 32)`.

    Source: Y. Saad, M. H. Schultz, SIAM J. Sci. Stat. Comput. 7 (1986).

    Example:
        >>> import jax, jax.numpy as jnp, jdeq
        >>> def sixth(b):  # z = b - 5 z
        ...     z, _ = jdeq.deq(
        ...         lambda z: b - 5 * z, jnp.zeros(3), batch_dims=0,
        ...         solver="broyden", backward=jdeq.IFT(solver="gmres"))
        ...     return z.sum()
        >>> print(f"{jax.grad(sixth)(1.0):.4f}")
        0.5000
    """

    restart: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.restart is not None:
            check_int("restart", self.restart, low=1)

    def open(self, space: Space, y: PyTree, r: PyTree) -> GMRESState:
        size = max(1, min(self.max_iter, FULL if self.restart is None else self.restart))
        beta = space.norm(r)
        zeros = jnp.zeros_like(beta)
        small = jnp.broadcast_to(zeros[..., None], (*zeros.shape, size))
        wide = jnp.broadcast_to(zeros[..., None], (*zeros.shape, size + 1))
        return GMRESState(
            k=jnp.zeros((), jnp.int32),
            y=y,
            basis=History.empty(space, r, size),
            q=space.scale(r, divide(jnp.ones_like(beta), beta, beta > 0)),
            rotations=History.empty(space, wide, size),
            left=_basis_vector(wide, 0),
            inverse=History.empty(space, small, size),
            weights=small,
            beta=beta,
            shares=small,
            square=space.dot(y, y),
        )

    def direction(self, space: Space, state: GMRESState) -> tuple[PyTree, Array | None]:
        """What the next product is made with, and whose is not their `q` (None: nobody's)."""
        return state.q, None

    def going(self, space: Space, state: GMRESState, log: Log) -> Array:
        return space.any(log.active) & (state.k < state.weights.shape[-1])

    def advance(self, space: Space, apply: Apply, state: GMRESState, log: Log, rule: Rule):
        """Arnoldi: (I - A) Q_k = Q_{k+1} H. With G H = (R, 0)^T the weights are R^{-1} beta G e_1.

        A new column of R appends one to its inverse, which times the new entry of beta G e_1 is
        the change of all weights.
        """
        k, eps = state.k, resolution(state.q)
        basis = state.basis.write(space, k, state.q)
        p, foreign = self.direction(space, state)
        w = apply(p)
        if foreign is not None:
            w = space.where(foreign, space.sub(w, p), w)
        inner, w, after = _orthogonalise(space, basis, k + 1, w, log.active)
        own = _basis_vector(inner, k)
        if foreign is not None:  # w is all of A p - p then
            own = jnp.where(foreign[..., None], 0, own)
        h = jnp.concatenate([own - inner, jnp.zeros_like(after)[..., None]], -1)
        length = jnp.sqrt(jnp.sum(h * h, -1) + after * after)  # of p - A p
        t = state.rotations.dots(space.unsplit, h, k)
        top = jnp.sum(state.left * h, -1)
        pivot = jnp.hypot(top, after)
        # asked of t too, so that `rotations` is written, in place, after it was read
        finite = jnp.isfinite(pivot + jnp.sum(t, -1))
        usable = finite & (pivot > eps * length)  # else I - A is singular on the space
        c, s = divide(top, pivot, usable)[..., None], divide(-after, pivot, usable)[..., None]
        new = _basis_vector(h, k + 1)
        upper, left = c * state.left + s * new, c * new - s * state.left
        column = _basis_vector(t, k) - state.inverse.accumulate(space, t, k)
        column = jnp.where(usable[..., None], column, 0)
        column = column * divide(jnp.ones_like(pivot), pivot, usable)[..., None]

        keep = log.active & usable
        step = jnp.where(keep, state.beta * upper[..., 0], 0)
        weights = state.weights + step[..., None] * jnp.where(keep[..., None], column, 0)
        share = space.dot(p, state.y)
        shares = put(state.shares, share, k, column.ndim - 1)
        size_squared = state.square + jnp.sum(weights * (2 * shares + weights), -1)
        residual = state.beta * jnp.abs(left[..., 0])
        log, _ = rule.book(
            log,
            residual,
            jnp.sqrt(jnp.maximum(size_squared, 0)),  # of y, not f(y)
            usable=usable,
            finite=finite,
            slack=residual,
        )
        q = space.scale(w, divide(jnp.ones_like(after), after, log.active & (after > 0)))
        state = GMRESState(
            k=k + 1,
            y=state.y,
            basis=basis,
            q=space.where(log.active, q, state.q),
            rotations=state.rotations.write(space, k, upper),
            left=left,
            inverse=state.inverse.write(space, k, column),
            weights=weights,
            beta=state.beta,
            shares=shares,
            square=state.square,
        )
        return state, log._replace(steps=jnp.where(keep, log.products, log.steps))

    def close(self, space: Space, state: GMRESState) -> PyTree:
        return space.add(state.y, state.basis.accumulate(space, state.weights, state.k))


def _orthogonalise(
    space: Space, basis: History, filled: Array, w: PyTree, active: Array
) -> tuple[Array, PyTree, Array]:
    """Takes from `w` its part in the basis.

    Returns:
        The coefficients of that part, the rest, and the norm of the rest: 0 if it is rounding.
    """

    def project(w: PyTree) -> tuple[Array, PyTree]:
        inner = basis.dots(space, w, filled)
        return inner, space.add(w, basis.accumulate(space, inner, filled), -1)

    def again(inner: Array, rest: PyTree, after: Array) -> tuple[Array, PyTree, Array]:
        more, closer = project(rest)
        inner = inner + jnp.where(cancelled[..., None], more, 0)
        rest = space.where(cancelled, closer, rest)
        return inner, rest, jnp.where(cancelled, space.norm(rest), after)

    before = space.norm(w)
    inner, rest = project(w)
    after = space.norm(rest)
    cancelled = active & ~(after > CANCELLED * before)
    once = lambda *outcome: outcome
    inner, rest, after = if_needed(space.any(cancelled), again, once, inner, rest, after)
    return inner, rest, jnp.where(after > resolution(w) * before, after, 0)


def _basis_vector(like: Array, index: ArrayLike) -> Array:
    """e_index, of the shape, dtype and sharding of `like`."""
    here = lax.broadcasted_iota(jnp.int32, like.shape, like.ndim - 1) == index
    return jnp.zeros_like(like) + here.astype(like.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class AugmentedGMRES(GMRES):
    """A cycle of LGMRES, which ends with products with given directions instead of the basis.

    Earlier cycles of the same, or nearly the same system that used up their basis leave their
    corrections, and these keep the next ones from undoing them: restarts no longer stagnate.

    `others` is a history of l unit vectors. Where a sample is not `given` one, (*batch, l) bool, it
    goes on with the basis. Since they are not orthogonal to it, the estimate of `||y||` is rough in
    such a cycle.

    Source: A. H. Baker, E. R. Jessup, T. Manteuffel, SIAM J. Matrix Anal. Appl. 26 (2005).
    """

    others: PyTree
    given: Array

    def direction(self, space: Space, state: GMRESState) -> tuple[PyTree, Array | None]:
        first = state.weights.shape[-1] - self.given.shape[-1]
        index = lax.broadcasted_iota(jnp.int32, self.given.shape, self.given.ndim - 1)
        here = self.given & (index == state.k - first)
        other = space.combine(self.others, here.astype(state.weights.dtype))
        foreign = jnp.any(here, -1)
        return space.where(foreign, other, state.q), foreign

    def close(self, space: Space, state: GMRESState) -> PyTree:
        first = state.weights.shape[-1] - self.given.shape[-1]
        end = state.weights[..., first:]
        own = jnp.concatenate([state.weights[..., :first], jnp.where(self.given, 0, end)], -1)
        y = super().close(space, state._replace(weights=own))
        return space.add(y, space.combine(self.others, jnp.where(self.given, end, 0)))
