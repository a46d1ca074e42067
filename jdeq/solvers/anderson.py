"""Anderson acceleration, type I and type II."""

import dataclasses
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from .._checks import (
    check_bool,
    check_either,
    check_history_dtype,
    check_int,
    check_scalar,
    check_tau,
)
from .._info import Status
from .._loop import Solution
from .._method import is_one
from .._space import PyTree, Space, accumulator
from .base import InverseEstimator, IterativeSolver
from .parts.line_search import LineSearch
from .parts.small import solve_general, solve_spd


class AndersonState(NamedTuple):
    """Differences between successive iterates, in a ring of `m - 1` slots.

    `moves` holds the change of z + tau g, `changes` the change of g = f(z) - z. `gram`
    `(*batch, m - 1, m - 1)` holds <test_i, changes_j>, newest first, where the test vectors are the
    changes themselves (type II) or those of z (type I); `shares` (*batch, m - 1) holds <test_i, g>,
    newest first. `mixed`, `g`: z + tau g and g of the last iterate that was accepted; `search`:
    where the line search stands (None without one); `moving` (*batch,) bool: whose window moves on
    (None: everybody's, also that of samples which have stopped). `|g|` was `record` (*batch,)
    `since` (*batch,) int32 iterations, and has not been half of it again.
    """

    moves: PyTree
    changes: PyTree
    gram: Array
    shares: Array
    mixed: PyTree
    g: PyTree
    search: LineSearch | None
    moving: Array | None
    record: Array
    since: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Anderson(IterativeSolver, InverseEstimator):
    """Anderson acceleration: mixes the last `m` iterates so as to shrink the residual.

    `z <- sum_i a_i (z_i + tau g_i)` with weights that sum to 1. Type II, the usual one, minimises
    `|sum_i a_i g_i|` and is equivalent to GMRES on an affine map; type I makes the mixed residual
    orthogonal to the moves `z_{i+1} - z_i`, a multisecant Jacobian as Broyden's good method has
    (Fang & Saad 2009). The TorchDEQ paper calls the formula of type II type I.

    Worked out in differences of successive iterates, `gamma = (T^T dG)^{-1} T^T g` with the test
    vectors `T = dG` (type II) or `T = dZ` (type I), and one new row (and column) of the small
    matrix per iteration. The histories are two times `m - 1` vectors; an iteration reads each
    of them once with type II, twice with type I. The first step is the plain `f(z0)` (Walker & Ni
    2011).

    Args:
        m: how many iterates are mixed, the current one included; 1 is damped iteration.
        kind: 1 or 2, the type.
        lam: regularisation of the least squares problem (type II only). None: the rounding error
            of the sums, or 1e-4 if absolute.
        lam_mode: `"relative"` adds `lam` times its own diagonal to the Gram matrix of the
            differences, so that rescaling `z` changes nothing and the residual can fall as far as
            the dtype goes. `"absolute"` adds `lam |a|^2` to the objective, as TorchDEQ does; once
            residuals are below `sqrt(lam)` that turns the mixing into plain averaging.
        tau: damping, in (0, 2].
        line_search: cut a step short, up to six times, that makes `|g|` rise too much or `f`
            non-finite. A trial is an iteration with its evaluation, and takes a place in the
            window; a vector more is held. For `f` that grows fast.
        history_dtype: `"bfloat16"`, `"float16"` or `"float32"`: in which the histories are held,
            if not in the state's. Halves their memory; the mixing is as good as its digits.
        patience: where `|g|` has not halved in this many iterations, one step is `z + g / 2`
            instead, which damps what the window does not see, as alternating Anderson-Richardson
            does. None: `2 m`, or never if `lam_mode` is absolute. 0: never.

    A difference that depends linearly on newer ones is left out, so the small system is never
    singular.

    Source: D. G. Anderson, J. ACM 12 (1965); TorchDEQ paper, eqs. 8-9; alternating
    Anderson-Richardson: P. P. Pratapa et al., J. Comput. Phys. 306 (2016).

    Example:
        >>> import jax.numpy as jnp, jdeq
        >>> solver = jdeq.Anderson(m=4, max_iter=30)
        >>> z, info = jdeq.deq(lambda z: jnp.cos(z), jnp.zeros((2, 3)), solver=solver)
        >>> bool(info.converged.all())
        True
    """

    m: int = 6
    kind: Literal[1, 2] = 2
    lam: float | Array | None = None
    lam_mode: Literal["relative", "absolute"] = "relative"
    tau: float | Array = 1.0
    line_search: bool = False
    patience: int | None = None
    history_dtype: str | None = None
    remembers: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("m", self.m, low=1)
        check_tau(self.tau)
        check_history_dtype(self.history_dtype)
        if self.patience is not None:
            check_int("patience", self.patience, low=0)
        check_bool("line_search", self.line_search)
        check_either("kind", self.kind, 1, 2)
        if self.kind == 1 and (self.lam is not None or self.lam_mode != "relative"):
            raise ValueError("lam and lam_mode are for kind=2: type I has no least squares problem")
        if self.lam is not None:
            check_scalar("lam", self.lam, low=0)
        check_either("lam_mode", self.lam_mode, "relative", "absolute")

    def init(self, space: Space, z0: PyTree) -> AndersonState:
        zeros = jax.tree.map(jnp.zeros_like, z0)
        history = space.history(z0, self.m - 1, self.history_dtype)
        zero = jnp.zeros_like(space.dot(z0, z0))
        shares = jnp.broadcast_to(zero[..., None], (*zero.shape, self.m - 1))
        gram = jnp.broadcast_to(shares[..., None], (*shares.shape, self.m - 1))
        search = LineSearch.start(space, z0, 1.0) if self.line_search else None
        moving = jnp.ones_like(zero, bool) if self.remembers else None
        record, since = zero + jnp.inf, zero.astype(jnp.int32)
        return AndersonState(
            history, history, gram, shares, zeros, zeros, search, moving, record, since
        )

    def step(self, space: Space, k: Array, z: PyTree, fz: PyTree, state: AndersonState):
        g = space.sub(fz, z)
        if state.search is None:
            z_next, state = self._mix(space, k, z, g, fz, state)
            return self._unstick(space, z, g, z_next, state)
        now = space.norm(g)
        again = state.search.rejects(k, now)  # back to the last iterate: an empty difference
        z, g = space.where(again, (state.search.base, state.g), (z, g))
        z_next, new = self._mix(space, k, z, g, space.add(z, g), state)
        z_next, new = self._unstick(space, z, g, z_next, new)
        d = space.sub(z_next, z)
        search = state.search.follow(space, z, now, again, d, 1.0)
        return space.add(z, d, search.length), new._replace(search=search)

    def inform(self, state: AndersonState, going: Array, size: Array) -> AndersonState:
        halved = size < 0.5 * state.record
        record = jnp.where(halved, size, state.record)
        return state._replace(record=record, since=jnp.where(halved, 0, state.since + 1))

    def recovers(self, state: AndersonState) -> Array | bool:
        return False if state.search is None else state.search.can_cut()

    def freeze(self, space: Space, moving: Array, new: AndersonState, old: AndersonState):
        return new._replace(moving=moving) if self.remembers else new

    def _mix(
        self, space: Space, k: Array, z: PyTree, g: PyTree, fz: PyTree, state: AndersonState
    ) -> tuple[PyTree, AndersonState]:
        """The next iterate, with `g = fz - z` and the differences in the window."""
        mixed = plain = fz
        if not is_one(self.tau):
            mixed = space.add(z, g, self.tau)
            plain = space.where(k == 0, fz, mixed)
        if self.m == 1:
            return plain, state._replace(mixed=mixed, g=g)
        size = self.m - 1
        slot = (k - 1) % size
        newest_first = (slot - jnp.arange(size, dtype=k.dtype)) % size  # its own inverse
        here = jnp.arange(size, dtype=k.dtype) == slot
        window = state.moves, state.changes
        newest = space.rounded((space.sub(mixed, state.mixed), space.sub(g, state.g)), window)
        tau = jnp.asarray(self.tau, state.gram.dtype)
        if state.moving is not None:
            held = space.read(window, slot)
            held = jax.tree.map(lambda h, a: h.astype(a.dtype), held, newest)
            newest = space.where(state.moving, newest, held)
        move, change = newest
        test = change if self.kind == 2 else space.add(move, change, -tau)  # or dz

        def dots(history: PyTree, new: PyTree, x: PyTree) -> Array:
            """<h_j, x>, newest first, of the history that will have `new` in its slot."""
            new_dot = space.dot(new, x)[..., None]
            return jnp.where(here, new_dot, space.dots(history, x))[..., newest_first]

        def tested(x: PyTree) -> Array:
            """<test_i, x>, newest first."""
            by_change = dots(state.changes, change, x)
            if self.kind == 2:
                return by_change
            return dots(state.moves, move, x) - tau * by_change

        column = tested(change)
        row = column if self.kind == 2 else dots(state.changes, change, test)
        gram = _grow(state.gram, row, column)
        if state.moving is not None:
            gram = jnp.where(state.moving[..., None, None], gram, state.gram)
        if _unrounded(state.changes, g):  # <test_i, g> has grown by <test_i, change>
            grown = state.shares[..., :-1] + column[..., 1:]
            shares = jnp.concatenate([space.dot(test, g)[..., None], grown], -1)
        else:
            shares = tested(g)
        solve = self._oblique if self.kind == 1 else self._least_squares
        gamma = solve(gram, shares, jnp.minimum(k, size))
        finite = jnp.all(jnp.isfinite(gamma), -1)  # products may overflow where states do not
        gamma = jnp.where(finite[..., None], gamma, 0)
        z_next = space.add(plain, move, -gamma[..., 0])
        older = jnp.where(here, 0, gamma[..., newest_first])
        z_next = space.add(z_next, space.accumulate(state.moves, older), -1)
        # XLA writes into a history without copying it if that depends on all that was read of it;
        # an empty difference is what comes of a step that is not finite
        nothing = jax.tree.map(jnp.zeros_like, change)
        change = space.where(finite, change, nothing)
        move = jax.tree.map(lambda a, b: jnp.where(jnp.isfinite(b), a, 0), move, z_next)
        moves = space.write(state.moves, slot, move)
        changes = space.write(state.changes, slot, change)
        return z_next, state._replace(
            moves=moves, changes=changes, gram=gram, shares=shares, mixed=mixed, g=g
        )

    def _unstick(
        self, space: Space, z: PyTree, g: PyTree, z_next: PyTree, state: AndersonState
    ) -> tuple[PyTree, AndersonState]:
        """`z_next`, or a damped plain step for the samples that `patience` has run out for."""
        patience = self.patience
        if patience is None:
            patience = 2 * self.m if self.lam_mode == "relative" else 0
        if patience == 0:
            return z_next, state
        stuck = state.since >= patience
        state = state._replace(since=jnp.where(stuck, 0, state.since))
        return space.where(stuck, space.add(z, g, 0.5), z_next), state

    def remembering(self) -> "Anderson":
        settings = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return _Remembering(**settings)

    def apply_transposed_inverse(self, space: Space, solution: Solution, v: PyTree) -> PyTree:
        """With `B = -I + (dZ + dG) (T^T dG)^{-1} T^T` over the last window.

        Only samples that converged end in the state that is returned: `v` for the others.
        """
        state, size = solution.memory, self.m - 1
        if size == 0:
            return v
        steps = solution.steps[..., None]
        age = lax.broadcasted_iota(steps.dtype, (*solution.steps.shape, size), steps.ndim - 1)
        newest_first = (steps - 1 - age) % size
        order = lambda x: jnp.take_along_axis(x, newest_first, -1)
        by_move, by_change = (space.dots(h, v) for h in (state.moves, state.changes))
        gram = jnp.swapaxes(state.gram, -1, -2)
        rhs = order(by_move + (1 - jnp.asarray(self.tau, gram.dtype)) * by_change)
        e = order(self._oblique(gram, rhs, jnp.minimum(solution.steps, size)))
        if self.kind == 1:  # dZ = moves - tau changes
            out = space.add(v, space.accumulate(state.moves, e), -1)
            out = space.add(out, space.accumulate(state.changes, e), self.tau)
        else:
            out = space.add(v, space.accumulate(state.changes, e), -1)
        return space.where(solution.status == Status.CONVERGED, out, v)

    def _oblique(self, gram: Array, rhs: Array, filled: Array) -> Array:
        """Solves with the part of `gram` that belongs to the `filled` newest differences."""
        filled = jnp.broadcast_to(filled, rhs.shape[:-1])[..., None]
        index = lax.broadcasted_iota(filled.dtype, rhs.shape, rhs.ndim - 1)
        there = index < filled
        gram = jnp.where(there[..., None] & there[..., None, :], gram, 0)
        return solve_general(gram, jnp.where(there, rhs, 0))

    def _least_squares(self, gram: Array, rhs: Array, filled: Array) -> Array:
        """gamma = argmin |g - sum_j gamma_j change_j|, regularised; of the `filled` newest."""
        size, dtype = rhs.shape[-1], rhs.dtype
        eps = float(jnp.finfo(dtype).eps)
        row = lax.broadcasted_iota(filled.dtype, gram.shape, gram.ndim - 2)
        column = lax.broadcasted_iota(filled.dtype, gram.shape, gram.ndim - 1)
        if self.lam_mode == "relative":
            ridge = jnp.asarray(eps if self.lam is None else self.lam, dtype)
        else:  # |a|^2 in terms of gamma: a = (1 - gamma_0, gamma_0 - gamma_1, ..., gamma_last)
            ridge, lam = 0.0, jnp.asarray(1e-4 if self.lam is None else self.lam, dtype)
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
        return scale * solve_spd(unit, scale * rhs, dependent=4 * size * eps)


class _Remembering(Anderson):
    """Anderson whose window does not move on once a sample stands still."""

    remembers = True


def _unrounded(history: PyTree, x: PyTree) -> bool:
    """Whether differences are kept in the dtype that sums run in."""
    pairs = zip(jax.tree.leaves(history), jax.tree.leaves(x), strict=True)
    return all(h.dtype == a.dtype == accumulator(a) for h, a in pairs)


def _grow(gram: Array, row: Array, column: Array) -> Array:
    """The small matrix, newest first, with a new first row and column and without the oldest."""
    below = jnp.concatenate([column[..., 1:, None], gram[..., :-1, :-1]], -1)
    return jnp.concatenate([row[..., None, :], below], -2)
