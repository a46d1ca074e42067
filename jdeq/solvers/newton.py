"""Newton-Krylov."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from .._checks import check_int, check_scalar
from .._loop import Solution
from .._space import PyTree, Space, put
from .base import IterativeSolver, Solver
from .linear.affine import divide
from .linear.books import Log, Rule
from .linear.gmres import AugmentedGMRES

GAMMA, LOOSEST, FIRST = 0.9, 0.5, 0.1  # forcing: the factor, the largest one, the first one
PROBE = 3  # products for a linear model that has not held at the last trial
HOLDS = 0.5  # it has if it missed the residual there by less than this share
DECREASE = 1e-4  # a step must take this share of what the linear model promised
GROWTH = 30.0  # what a step may do to the residual after all when halving it did not help
SHORTEST = 2.0**-16  # fraction of a step
OTHERS = 5  # earlier directions at hand where the basis is too small
MARGIN = 0.9  # of the tolerance, for what the linear model does not see


class NewtonState(NamedTuple):
    """The last accepted state `base`, its residual norm `record`, the direction `s` from it.

    `length` (*batch,) is the fraction of `s` that is being tried, `tries` (*batch,) int32 how many
    were in vain, `left` (*batch,) the share of the residual that the linear model leaves after all
    of `s`, `made` (*batch, passes) int32 the evaluations of each step: a linearisation and its
    products. `others` is a history of earlier directions for which the products did not suffice,
    where `given` (*batch, l) holds; `going` (*batch,) bool says who goes on, `size` (*batch,) is
    the residual norm, see `inform`.
    """

    base: PyTree
    record: Array
    s: PyTree
    length: Array
    tries: Array
    left: Array
    made: Array
    others: PyTree
    given: Array
    going: Array
    size: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Newton(Solver):
    """Newton-Krylov on `g(z) = f(z) - z`: `z <- z + t s` with `(I - J) s = g(z)`, `J = df/dz`.

    A cycle of GMRES solves the linear system to `|g - (I - J) s| <= eta |g|`, but no further than
    `tol` needs. `eta` is the lesser of Eisenstat and Walker's two choices: by how much `|g|` at the
    last trial missed what the linear model had promised, as a share of `|g|` before; and
    `0.9 (|g| / |g_before|)^2`. Hence an affine `f` is solved at one go, and near a solution
    convergence is quadratic. A model that has not held yet, or missed by half, is worth 3 products.
    Where `inner_max_iter` products did not suffice, the next cycles end with the directions of the
    last 5 iterations (LGMRES), so that indefinite systems do not stagnate.

    `t` is halved while `f(z + t s)` is not finite, then `backtracks` times unless `|g|` falls; a
    step is then taken if it does not make `|g|` 30 times larger, since `|g|` may have minima that
    are no solutions and strict descent ends in them. Eigenvalues of `J` beyond 1 do no harm.

    An iteration is a trial: one evaluation of `f`, one linearisation and as many Jacobian-vector
    products as GMRES makes, each of which reads the basis two or four times; `nfe` counts
    evaluations, linearisations and products. Holds `m + min(5, m / 2) + 6` vectors like `z`, where
    `m` is `inner_max_iter`, or the size of a sample if that is less: 61 by default, 244 bytes per
    float32 of `z`. Fewer, dearer iterations than Broyden: for tight tolerances, stiff or
    ill-conditioned problems, and for `f` on whose residual the others wander. Cannot be unrolled.

    Args:
        inner_max_iter: most products per iteration. An indefinite or non-normal `I - J` that asks
            for many more is slow, or out of reach.
        forcing: a fixed `eta` in (0, 1) instead, for any model.
        backtracks: how often a finite step is halved to make `|g|` fall.
        return_final: return the last state instead of the best one.

    Source: S. C. Eisenstat, H. F. Walker, SIAM J. Sci. Comput. 17 (1996); C. T. Kelley, *Solving
    Nonlinear Equations with Newton's Method* (2003), ch. 3; D. A. Knoll, D. E. Keyes, J. Comput.
    Phys. 193 (2004).

    Example:
        >>> import jax.numpy as jnp, jdeq
        >>> z, info = jdeq.deq(lambda z: 0.5 * (z + 2 / z), jnp.ones((1, 1)), solver="newton")
        >>> print(f"{z[0, 0]:.5f}")
        1.41421
    """

    inner_max_iter: int = 50
    forcing: float | Array | None = None
    backtracks: int = 1
    return_final: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("inner_max_iter", self.inner_max_iter, low=1)
        check_int("backtracks", self.backtracks, low=0)
        if self.forcing is not None:
            check_scalar("forcing", self.forcing, above=0, below=1)

    def solve(self, f, z0, *, space, limit, indexing, loop) -> Solution:
        if loop != "while":
            raise ValueError("Newton cannot be unrolled: use backward='ift', 'phantom' or 'jfb'")
        bound = _Iteration(
            max_iter=self.max_iter,
            tol=self.tol,
            stop_mode=self.stop_mode,
            return_final=self.return_final,
            newton=self,
            f=f,
            limit=limit,
        )
        solution = bound.solve(f, z0, space=space, limit=limit, indexing=indexing, loop=loop)
        made = solution.memory.made
        return solution._replace(evals=jnp.concatenate([solution.evals, made], -1))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Iteration(IterativeSolver):
    """`Newton` bound to an `f` that can be linearised, for the common loop to drive."""

    newton: Newton
    f: Callable[[PyTree], PyTree]
    limit: Array

    def init(self, space: Space, z0: PyTree) -> NewtonState:
        zero = jnp.zeros_like(space.dot(z0, z0))
        size = min(OTHERS, self._most(space, z0) // 2)
        return NewtonState(
            base=z0,
            record=zero + jnp.inf,
            s=jax.tree.map(jnp.zeros_like, z0),
            length=zero + 1,
            tries=zero.astype(jnp.int32),
            left=zero + 1,
            made=jnp.broadcast_to(zero.astype(jnp.int32)[..., None], (*zero.shape, self.passes)),
            others=space.history(z0, size),
            given=jnp.broadcast_to(zero[..., None] > 0, (*zero.shape, size)),
            going=zero == 0,
            size=zero,
        )

    def inform(self, state: NewtonState, going: Array, size: Array) -> NewtonState:
        return state._replace(going=going, size=size)

    def recovers(self, state: NewtonState) -> Array:
        return jnp.isfinite(state.record) & (state.length > SHORTEST)

    def step(self, space: Space, k, z: PyTree, fz: PyTree, state: NewtonState):
        size = state.size
        tol = self.tolerance(*jax.tree.leaves(z))
        finite = size > 0  # else the loop has put the best state here, see `recovers`
        halved, shortest = state.tries >= self.newton.backtracks, state.length <= SHORTEST
        accepted = finite & (
            (size <= state.record * (1 - DECREASE * state.length * (1 - state.left)))
            | (halved & (size <= GROWTH * state.record))
            | shortest
        )
        most = self._most(space, z)
        solving = accepted & state.going
        eta, limit = self._forcing(size, state, most)
        rule = Rule(self.stop_mode, MARGIN * tol, limit, eta * size)
        # an iteration in which all samples cut a step short, or stop, need not linearise
        s, left, products = lax.cond(
            space.any(solving),
            lambda: self._direction(space, z, fz, size, rule, solving, state),
            lambda: (state.s, jnp.ones_like(size), jnp.zeros_like(state.tries)),
        )

        others, given = state.others, state.given
        if given.shape[-1] > 0:  # the slot is every sample's: one that backtracks loses its entry
            slot = k % given.shape[-1]
            length = space.norm(s)
            unit = space.scale(s, divide(jnp.ones_like(length), length, length > 0))
            index = lax.broadcasted_iota(k.dtype, given.shape, given.ndim - 1)
            short = solving & (products >= most) & (left > eta)
            others = space.write(others, slot, unit)
            given = jnp.where(index == slot, short[..., None], given)

        base = space.where(accepted, z, state.base)
        s = space.where(accepted, s, state.s)
        length = jnp.where(accepted, 1, 0.5 * state.length)
        return space.add(base, s, length), NewtonState(
            base=base,
            record=jnp.where(accepted, size, state.record),
            s=s,
            length=length,
            tries=jnp.where(accepted, 0, state.tries + finite.astype(jnp.int32)),
            left=jnp.where(accepted, left, state.left),
            made=put(state.made, jnp.where(solving, 1 + products, 0), k, state.made.ndim - 1),
            others=others,
            given=given,
            going=state.going,
            size=size,
        )

    def _forcing(self, size: Array, state: NewtonState, most: int) -> tuple[Array, Array]:
        """eta for the step from a state with residual norm `size`, and how many products."""
        if self.newton.forcing is not None:
            eta = jnp.full_like(size, self.newton.forcing)
            return eta, jnp.full_like(state.tries, most)
        first = ~jnp.isfinite(state.record)
        ratio = size / state.record
        # GMRES leaves a residual that is orthogonal to (I - J) s
        promised = jnp.hypot(state.left, (1 - state.length) * jnp.sqrt(1 - state.left**2))
        miss = jnp.where(first, 1, jnp.abs(ratio - promised))
        eta = jnp.minimum(jnp.minimum(miss, GAMMA * ratio**2), LOOSEST)
        limit = jnp.where(miss < HOLDS, most, min(PROBE, most))
        return jnp.where(first, FIRST, eta), limit.astype(jnp.int32)

    def _most(self, space: Space, z: PyTree) -> int:
        """Products per iteration: GMRES is exact after as many as a sample has entries."""
        most, entries = self.newton.inner_max_iter, space.dimension(z)
        return most if entries is None else max(1, min(most, entries))

    def _direction(
        self, space: Space, z: PyTree, fz: PyTree, size: Array, rule: Rule, solving, state
    ) -> tuple[PyTree, Array, Array]:
        """Of the samples that are `solving`: s, |g - (I - J) s| / |g|, the products made."""
        _, push = jax.linearize(self.f, z)
        most = self._most(space, z)
        zero = jnp.zeros_like(size)
        count, inf = zero.astype(jnp.int32), zero + jnp.inf
        trace = jnp.broadcast_to(inf[..., None], (*zero.shape, most))
        log = Log(count, solving, zero == 0, inf, count, trace, trace)
        gmres = AugmentedGMRES(max_iter=most, restart=most, others=state.others, given=state.given)
        g = space.sub(fz, z)
        # from y = z, so that GMRES knows how large z + s is, which the relative residual needs
        y, log = gmres.cycle(space, push, z, g, log, rule)
        left = divide(jnp.min(log.abs_trace, -1), size, size > 0)
        # I - J is singular where no product helped: then a fixed point step, to get away
        s = space.where(left < 1, space.sub(y, z), g)
        return s, jnp.minimum(left, 1), log.products
