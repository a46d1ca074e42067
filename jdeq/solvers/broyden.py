"""Broyden's method."""

import dataclasses
from typing import Literal, NamedTuple

import jax.numpy as jnp
from jax import Array

from .._checks import check_bool, check_either, check_history_dtype, check_int, check_tau
from .._loop import Solution
from .._method import is_one
from .._space import PyTree, Space
from .base import InverseEstimator, IterativeSolver
from .parts.bad_inverse import BadInverse
from .parts.good_inverse import GoodInverse
from .parts.line_search import LineSearch

FEW, MOST = 64, 256  # steps kept where nobody says: of the smallest states, and at most


class BroydenState(NamedTuple):
    """The inverse Jacobian so far, and where the line search stands (None without one)."""

    inverse: GoodInverse | BadInverse
    search: LineSearch | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Broyden(IterativeSolver, InverseEstimator):
    """Broyden's method on `g(z) = f(z) - z`, starting from the Jacobian `-I`.

    `z <- z + tau d`, where `d = -B g` and `B` approximates the inverse Jacobian of `g` by one
    rank-one update per step, of `s`, the change of z, and `y`, the change of g:

        good:  B <- B + (s - B y) s^T B / (s^T B y)
        bad:   B <- B + (s - B y) y^T / (y^T y)

    Superlinear near a solution, exact after 2n steps on an affine map, and indifferent to
    eigenvalues of `df/dz` beyond 1: the usual choice for DEQs. Each sample has its own `B`. On
    affine and nearly affine maps the bad update needs fewer evaluations, up to a third; on
    expansive networks and stiff equations the good one, the default, is the one that arrives.

    The good update is kept by its directions alone (Kelley, *Solving Nonlinear Equations with
    Newton's Method*, ch. 4): an iteration reads the history twice and holds one vector per step,
    half of what the U V^T form needs. The bad one holds two vectors per step and reads three
    times.

    Args:
        memory: most steps kept. None: as many as the solve may take, but no more than 64 or, of
            larger states, than twice their entries, after which the method is done on an affine
            map, and never more than 256, which is also for shorter steps (`tau`, `line_search`).
            A step takes a vector like `z` and `2 memory` numbers. When they are used up the good
            update starts afresh from `-I`, so that it is always a true Broyden matrix: overwriting
            old directions one by one would break its secant equation. The bad update drops the
            oldest step, exactly.
        tau: damping of the step, in (0, 2]; the update accounts for it exactly.
        update: `"good"` or `"bad"`.
        line_search: cut a step short, up to six times, that makes `|g|` rise too much or `f`
            non-finite. A trial is an iteration with its evaluation, and takes a place in the
            memory; a vector more is held. For `f` that grows fast; in the way for bounded `f`,
            whose residuals must rise before they fall.
        history_dtype: `"bfloat16"`, `"float16"` or `"float32"`: in which the history is held, if
            not in the state's. Halves its memory; steps are rounded to it, which costs iterations
            where the tolerance is tight.

    Source: C. G. Broyden, Math. Comp. 19 (1965); TorchDEQ paper, eqs. 10-12.

    Example:
        >>> import jax.numpy as jnp, jdeq
        >>> z, info = jdeq.deq(lambda z: 2 - 3 * z, jnp.zeros((4, 1)), solver="broyden")
        >>> bool(jnp.allclose(z, 0.5)), int(info.nfe)
        (True, 3)
    """

    memory: int | None = None
    tau: float | Array = 1.0
    update: Literal["good", "bad"] = "good"
    line_search: bool = False
    history_dtype: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_tau(self.tau)
        check_history_dtype(self.history_dtype)
        if self.memory is not None:
            check_int("memory", self.memory, low=1)
        check_either("update", self.update, "good", "bad")
        check_bool("line_search", self.line_search)

    def init(self, space: Space, z0: PyTree) -> BroydenState:
        size = min(self._longest(space, z0), self.passes)
        kind = GoodInverse if self.update == "good" else BadInverse
        search = LineSearch.start(space, z0, self.tau) if self.line_search else None
        return BroydenState(kind.empty(space, z0, size, self.history_dtype), search)

    def step(self, space: Space, k: Array, z: PyTree, fz: PyTree, state: BroydenState):
        g = space.sub(fz, z)
        inverse, search = state
        if search is None:
            length = jnp.full_like(space.dot(z, z), self.tau)
            d, inverse = inverse.direction(space, k, z, g, length, None)
            return space.add(z, d, self.tau), BroydenState(inverse, None)
        now = space.norm(g)
        again = search.rejects(k, now)
        d, inverse = inverse.direction(space, k, z, g, search.length, again)
        search = search.follow(space, z, now, again, d, self.tau)
        return space.add(search.base, d, search.length), BroydenState(inverse, search)

    def recovers(self, state: BroydenState) -> Array | bool:
        return False if state.search is None else state.search.can_cut()

    def freeze(self, space: Space, moving: Array, new: BroydenState, old: BroydenState):
        return new._replace(inverse=new.inverse.keep(moving, old.inverse))

    def _longest(self, space: Space, z0: PyTree) -> int:
        """Most steps worth keeping."""
        if self.memory is not None:
            return self.memory
        entries, whole_steps = space.dimension(z0), is_one(self.tau) and not self.line_search
        return min(max(FEW, 2 * entries), MOST) if entries and whole_steps else MOST

    def remembering(self) -> "Broyden":
        if self.memory is not None and self.memory < self.passes:
            raise ValueError(f"the inverse of a Broyden with memory={self.memory} is not all there")
        return dataclasses.replace(self, memory=self.passes)

    def apply_transposed_inverse(self, space: Space, solution: Solution, v: PyTree) -> PyTree:
        return solution.memory.inverse.transposed(space, solution.steps, v)
