"""What the solvers for affine `f` share: cycles of products, a measured residual after each."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from ..._evidence import GROWTH
from ..._info import Status
from ..._loop import Solution, hold, measure, relative, unmeasured
from ..._space import PyTree, Space, put
from ..base import Solver

Apply = Callable[[PyTree], PyTree]
FALL = 0.01  # of the first residual: what a solution leaves at most, or `tol` at the first size
PROGRESS = 0.999  # a cycle that leaves more than this of the residual has stalled


class Log(NamedTuple):
    """The books on products with A, per sample.

    `products` (*batch,) int32 counts them; `active` holds while the sample's cycle goes on;
    `finite` is False once a product was not; `record` is the lowest residual of the cycle, as
    estimated, and `steps` the product it came with; the traces are (*batch, max_iter).
    """

    products: Array
    active: Array
    finite: Array
    record: Array
    steps: Array
    abs_trace: Array
    rel_trace: Array


@dataclasses.dataclass(frozen=True, eq=False)
class Rule:
    """Ends a sample's cycle: the residual estimate is below `tol`, or `limit` products made.

    In whatever mode, an absolute estimate of at most `enough` ends it too, one above `bar` never.
    """

    stop_mode: str
    tol: ArrayLike
    limit: Array
    enough: ArrayLike = 0.0
    bar: ArrayLike = jnp.inf

    def book(
        self,
        log: Log,
        absolute: Array,
        size: Array,
        *,
        usable: Array,
        finite: Array,
        slack: ArrayLike = 0,
    ) -> tuple[Log, Array]:
        """Books a product of the active samples.

        Args:
            absolute, size: the estimates of `||f(y) - y||` and `||f(y)||` after it.
            usable: False where the method broke down: the cycle ends, the numbers do not count.
            finite: whether the product was.
            slack: by how much `||f(y)||` may be less than `size`.

        Returns:
            The log, and which samples now have their lowest residual.
        """
        rel = relative(absolute, size)
        highest = relative(absolute, jnp.maximum(size - slack, 0))
        now, sure = (absolute, absolute) if self.stop_mode == "abs" else (rel, highest)
        good = log.active & usable & jnp.isfinite(now)
        met = (sure < self.tol) & (absolute <= self.bar)
        take = good & (now < log.record)
        products = log.products + log.active.astype(jnp.int32)
        log = Log(
            products=products,
            active=good & ~met & (absolute > self.enough) & (products < self.limit),
            finite=log.finite & (finite | ~log.active),
            record=jnp.where(take, now, log.record),
            steps=jnp.where(take, products, log.steps),
            abs_trace=_write(log.abs_trace, log.products, absolute, good),
            rel_trace=_write(log.rel_trace, log.products, rel, good),
        )
        return log, take


class _Pending(NamedTuple):
    y: PyTree  # to be measured next
    pending: Array  # whether it is still to be
    log: Log
    best: Solution
    k: Array  # cycles so far
    made: Array  # (*batch, max_iter + 2) evaluations of each: the measurement, then its products
    first: tuple[Array, ...]  # |f(y) - y| and |f(y)| at the start, see `_judge`


@dataclasses.dataclass(frozen=True, kw_only=True)
class AffineSolver(Solver):
    """Solves `y = v + A y`, given as the affine map `f(y) = v + A y`, by products `A p` alone.

    `A p = f(p) - f(0)`. A method works in cycles: from an iterate `y` and its residual it makes
    products until its own estimate of the residual is below `tol` or it breaks down. Then `f` is
    evaluated at the outcome: only this measured residual is reported and decides the status. A
    cycle that made progress without converging is followed by another one.

    Each sample is a system of its own, with its own inner products, stopping and breakdown, which
    is why these solvers are not `jax.scipy.sparse.linalg`'s: there a pytree is one vector.

    `max_iter` counts products; an `advance` makes `PRODUCTS` of them. On an `f` that is not affine
    the outcome is whatever it is; its measured residual says so.
    """

    PRODUCTS: ClassVar[int] = 1

    @abc.abstractmethod
    def open(self, space: Space, y: PyTree, r: PyTree) -> Any:
        """The state of a cycle from `y`, whose residual `f(y) - y` is `r`."""

    @abc.abstractmethod
    def advance(
        self, space: Space, apply: Apply, state: Any, log: Log, rule: Rule
    ) -> tuple[Any, Log]:
        """Makes a product or two and books them."""

    @abc.abstractmethod
    def close(self, space: Space, state: Any) -> PyTree:
        """The cycle's best iterate."""

    def going(self, space: Space, state: Any, log: Log) -> Array:
        """Whether the cycle goes on for any sample."""
        return space.any(log.active)

    def cycle(
        self, space: Space, apply: Apply, y: PyTree, r: PyTree, log: Log, rule: Rule
    ) -> tuple[PyTree, Log]:
        """Runs a cycle of the active samples."""
        state, log = lax.while_loop(
            lambda c: self.going(space, *c),
            lambda c: self.advance(space, apply, *c, rule),
            (self.open(space, y, r), log),
        )
        return self.close(space, state), log

    @property
    def differentiates(self) -> bool:
        return False

    def solve(self, f, z0, *, space, limit, indexing, loop) -> Solution:
        if loop != "while":
            raise ValueError(
                f"{type(self).__name__} cannot be unrolled: use backward='ift', 'phantom' or 'jfb'"
            )
        constant = f(jax.tree.map(jnp.zeros_like, z0))
        offset = space.norm(constant)
        exponent = _exponent(offset)
        rule = Rule(self.stop_mode, self.tolerance(*jax.tree.leaves(z0)), limit)

        def apply(p: PyTree) -> PyTree:  # p as large as f(0), so that the difference is accurate
            size = space.norm(p)
            shift = _exponent(size) - exponent
            image = f(space.scale(p, jnp.ldexp(jnp.ones_like(size), -shift)))
            return space.scale(space.sub(image, constant), jnp.ldexp(jnp.ones_like(size), shift))

        def one_cycle(c: _Pending) -> _Pending:
            fy = f(c.y)
            best, log, now, first = _judge(space, rule, indexing, c, fy, offset)
            moving = c.pending & (best.status == Status.MAX_ITER) & (log.products < limit)
            log = log._replace(active=moving, record=now)
            cycle_rule = dataclasses.replace(rule, bar=_bar(rule, first, best.z))

            def another(y: PyTree, r: PyTree, log: Log) -> tuple[PyTree, Log]:
                new, log = self.cycle(space, apply, y, r, log, cycle_rule)
                return space.where(moving, new, y), log

            # a cycle costs its memory even if no sample makes a product
            none = lambda y, r, log: (y, log)
            before = log.products
            y, log = lax.cond(space.any(moving), another, none, c.y, space.sub(fy, c.y), log)
            products = -(-(log.products - before) // self.PRODUCTS) * self.PRODUCTS
            made = put(c.made, c.pending.astype(jnp.int32) + products, c.k, c.made.ndim - 1)
            return _Pending(y, moving, log, best, c.k + 1, made, first)

        best = unmeasured(space, z0, length=self.max_iter, n_states=len(indexing))
        none = best.steps
        all_of_them = none == 0
        log = Log(
            products=none,
            active=all_of_them,
            finite=all_of_them,
            record=best.abs_residual,
            steps=none,
            abs_trace=best.abs_trace,
            rel_trace=best.rel_trace,
        )
        made = jnp.broadcast_to(none[..., None], (*none.shape, self.max_iter + 2))
        unknown = best.abs_residual
        start = _Pending(
            z0, all_of_them, log, best, jnp.zeros((), jnp.int32), made, (unknown, unknown)
        )
        end = lax.while_loop(lambda c: space.any(c.pending), one_cycle, start)
        solution = end.best._replace(
            evals=end.made, abs_trace=end.log.abs_trace, rel_trace=end.log.rel_trace
        )
        return hold(solution.after(1))  # f(0)


def _judge(
    space: Space, rule: Rule, indexing: tuple[int, ...], c: _Pending, fy: PyTree, offset: Array
) -> tuple[Solution, Log, Array, tuple[Array, ...]]:
    """Measures the pending iterates; `offset` is the norm of f(0).

    Returns:
        The best ones so far, the log with measured residuals, what decides among them, and the
        residual and size at the start, or `offset` where that is less: beside a far start, any
        residual is small.
    """
    best, log = c.best, c.log
    residual = measure(space, c.y, fy)
    at_start = jnp.isinf(c.first[0])
    most = jnp.where(offset > 0, offset, jnp.inf)
    begun = tuple(jnp.minimum(value, most) for value in (residual.abs, residual.size))
    first = tuple(jnp.where(at_start, new, old) for new, old in zip(begun, c.first, strict=True))
    # without a solution a method may go so far out that the residual is small beside it
    noise = resolution(c.y) * residual.size
    sure = residual.abs + noise <= _bar(rule, first, c.y)
    sure |= at_start & (noise <= _bar(rule, (residual.abs, residual.size), c.y))
    absolute = rule.stop_mode == "abs"
    now, record = (
        (residual.abs, best.abs_residual) if absolute else (residual.rel, best.rel_residual)
    )
    take = c.pending & residual.finite & (now < record)
    stuck = ~(now < PROGRESS * record) & (log.products < rule.limit)
    status = jnp.where(stuck, Status.STALLED, Status.MAX_ITER)
    status = jnp.where(residual.finite & log.finite, status, Status.NONFINITE)
    grown = residual.size > GROWTH * first[1]
    beyond = (now < rule.tol) & grown & (status != Status.MAX_ITER)
    status = jnp.where(beyond, Status.DIVERGED, status)
    status = jnp.where((now < rule.tol) & sure, Status.CONVERGED, status)
    known = c.pending & residual.finite
    best = best._replace(
        z=space.where(take, c.y, best.z),
        abs_residual=jnp.where(take, residual.abs, best.abs_residual),
        rel_residual=jnp.where(take, residual.rel, best.rel_residual),
        steps=jnp.where(take, log.steps, best.steps),
        status=jnp.where(c.pending, status, best.status).astype(jnp.int32),
        states=tuple(
            space.where(take & (log.steps <= i), c.y, s)
            for i, s in zip(indexing, best.states, strict=True)
        ),
    )
    log = log._replace(
        abs_trace=_write(log.abs_trace, log.steps - 1, residual.abs, known),
        rel_trace=_write(log.rel_trace, log.steps - 1, residual.rel, known),
    )
    return best, log, now, first


def _bar(rule: Rule, first: tuple[Array, ...], y: PyTree) -> Array:
    """What a residual must not exceed, rounding included, whose state may have grown."""
    residual, size = first
    enough = rule.tol if rule.stop_mode == "abs" else jnp.maximum(rule.tol, resolution(y)) * size
    return jnp.maximum(enough, FALL * residual)


def _write(trace: Array, column: Array, value: Array, mask: Array) -> Array:
    """The trace with `value` in each sample's own column, where `mask` holds."""
    here = lax.broadcasted_iota(jnp.int32, trace.shape, trace.ndim - 1) == column[..., None]
    return jnp.where(here & mask[..., None], value[..., None], trace)


def _exponent(x: Array) -> Array:
    """int32 e with 2^(e-1) <= x < 2^e; 0 for 0, infinity and NaN."""
    return jnp.where((x > 0) & jnp.isfinite(x), jnp.frexp(x)[1], 0)


def divide(a: Array, b: Array, where: Array) -> Array:
    """a / b, and 0 where `where` does not hold."""
    return jnp.where(where, a / jnp.where(where, b, 1), 0)


def resolution(x: PyTree) -> float:
    """The coarsest machine epsilon among the leaves."""
    return max(float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree.leaves(x))
