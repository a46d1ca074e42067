"""Newton-Krylov."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from .._loop import Solution, measure
from .._space import PyTree, Space
from .base import IterativeSolver, Solver, check_int
from .gmres import GMRES
from .krylov import Log, Rule, divide

GAMMA, SAFEGUARD = 0.9, 0.1  # of Eisenstat and Walker's second choice
DECREASE = 1e-4  # a step must take this share of what the linear model promised


class NewtonState(NamedTuple):
    """The last accepted state `base`, its residual norm `record`, the direction `s` from it.

    `length` (*batch,) is the fraction of `s` that is being tried, `forcing` (*batch,) the relative
    accuracy of `s`, `products` (*batch,) int32 the Jacobian-vector products so far.
    """

    base: PyTree
    record: Array
    s: PyTree
    length: Array
    forcing: Array
    products: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Newton(Solver):
    """Newton-Krylov on `g(z) = f(z) - z`: `z <- z + t s` with `(I - J) s = g(z)`, `J = df/dz`.

    The linear system is solved by a cycle of GMRES to `|g - (I - J) s| <= eta |g|`. `eta` follows
    Eisenstat and Walker's second choice, `0.9 (|g| / |g_before|)^2`, safeguarded: loose far from
    the solution, ever tighter near it, where convergence is quadratic. `t` is halved until `|g|`
    falls; each trial is an iteration with one evaluation. Eigenvalues of `J` beyond 1 do no harm.

    An iteration costs one evaluation of `f`, one linearisation and as many Jacobian-vector
    products as GMRES makes, and holds `inner_max_iter` + 4 vectors. `nfe` counts evaluations and
    products. Fewer, dearer iterations than Broyden: for tight tolerances, stiff problems, and `f`
    that Broyden or Anderson fail on. Cannot be unrolled.

    Args:
        inner_max_iter: most products per iteration.
        forcing: a fixed `eta` in (0, 1) instead.
        backtracks: how often `t` may be halved; the step is then taken as it is, since `|g|` may
            have a minimum that is no solution.
        return_final: return the last state instead of the best one.

    Source: S. C. Eisenstat, H. F. Walker, SIAM J. Sci. Comput. 17 (1996); C. T. Kelley, *Solving
    Nonlinear Equations with Newton's Method* (2003), ch. 3.

    Example:
        >>> import jax.numpy as jnp, jdeq
        >>> z, info = jdeq.deq(lambda z: 0.5 * (z + 2 / z), jnp.ones((1, 1)), solver="newton")
        >>> print(f"{z[0, 0]:.5f}")
        1.41421
    """

    inner_max_iter: int = 20
    forcing: float | None = None
    backtracks: int = 3
    return_final: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("inner_max_iter", self.inner_max_iter, low=1)
        check_int("backtracks", self.backtracks, low=0)
        if self.forcing is not None and not 0 < self.forcing < 1:
            raise ValueError(f"forcing must be in (0, 1), got {self.forcing!r}")

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
        return solution._replace(evals=solution.evals + solution.memory.products)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Iteration(IterativeSolver):
    """`Newton` bound to an `f` that can be linearised, for the common loop to drive."""

    newton: Newton
    f: Callable[[PyTree], PyTree]
    limit: Array

    def init(self, space: Space, z0: PyTree) -> NewtonState:
        zero = jnp.zeros_like(space.dot(z0, z0))
        eta = SAFEGUARD if self.newton.forcing is None else self.newton.forcing
        zeros = jax.tree.map(jnp.zeros_like, z0)
        return NewtonState(z0, zero + jnp.inf, zeros, zero + 1, zero + eta, zero.astype(jnp.int32))

    def freeze(self, space: Space, moving: Array, new: NewtonState, old: NewtonState) -> Any:
        return new._replace(products=jnp.where(moving, new.products, old.products))

    def step(self, space: Space, k, z: PyTree, fz: PyTree, state: NewtonState):
        residual = measure(space, z, fz)
        now = residual.abs if self.stop_mode == "abs" else residual.rel
        tol = self.tolerance(*jax.tree.leaves(z))
        promise = 1 - DECREASE * state.length * (1 - state.forcing)
        accepted = (residual.abs <= promise * state.record) | (
            state.length <= 0.5**self.newton.backtracks
        )
        solving = accepted & residual.finite & ~(now < tol) & (k < self.limit)

        eta = self._forcing(
            residual.abs, state, enough=divide(jnp.full_like(now, 0.5 * tol), now, now > 0)
        )
        s, products = self._direction(space, z, space.sub(fz, z), eta * residual.abs, solving)
        base = space.where(accepted, z, state.base)
        s = space.where(accepted, s, state.s)
        length = jnp.where(accepted, 1, 0.5 * state.length)
        return space.add(base, s, length), NewtonState(
            base=base,
            record=jnp.where(accepted, residual.abs, state.record),
            s=s,
            length=length,
            forcing=jnp.where(accepted, eta, state.forcing),
            products=state.products + products,
        )

    def _forcing(self, now: Array, state: NewtonState, *, enough: Array) -> Array:
        """eta for the step from a state with residual norm `now`; no need to go below `enough`."""
        if self.newton.forcing is not None:
            return state.forcing
        first = ~jnp.isfinite(state.record)
        ratio = divide(now, state.record, ~first & (state.record > 0))
        eta = GAMMA * ratio**2
        slow = GAMMA * state.forcing**2
        eta = jnp.where(slow > SAFEGUARD, jnp.maximum(eta, slow), eta)
        eta = jnp.where(first, state.forcing, eta)
        return jnp.clip(jnp.maximum(eta, enough), max=GAMMA)

    def _direction(
        self, space: Space, z: PyTree, g: PyTree, tol: Array, solving: Array
    ) -> tuple[PyTree, Array]:
        """s with |g - (I - J) s| <= tol for the samples that are `solving`; products made."""
        _, push = jax.linearize(self.f, z)
        gmres = GMRES(max_iter=self.newton.inner_max_iter, stop_mode="abs")
        zero = jnp.zeros_like(tol)
        count, inf = zero.astype(jnp.int32), zero + jnp.inf
        trace = jnp.broadcast_to(zero[..., None], (*zero.shape, 0))
        log = Log(count, solving, zero == 0, inf, count, trace, trace)
        rule = Rule("abs", tol, jnp.full_like(count, self.newton.inner_max_iter))
        start = jax.tree.map(jnp.zeros_like, g)
        s, log = gmres.cycle(space, push, start, g, log, rule)
        return s, log.products
