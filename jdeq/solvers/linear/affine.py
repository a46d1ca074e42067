"""What the solvers for affine `f` share: cycles of products, a measured residual after each."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..._checks import check_int
from ..._evidence import GROWTH
from ..._info import Status
from ..._loop import Solution, hold, measure, unmeasured
from ..._pace import WATCHED, is_late
from ..._powers import floor_log2
from ..._space import PyTree, Space, put
from ..base import Solver
from .books import Log, Rule, read, write

Apply = Callable[[PyTree], PyTree]
FALL = 0.01  # of the first residual: what a solution leaves at most, or `tol` at the first size
PROGRESS = 0.999  # a cycle that leaves more than this of the residual has stalled


class _Pending(NamedTuple):
    """Where a solve stands; masks and counts are (*batch,).

    `pending` samples have a `y` that is to be measured. While a sample is `plain`, `f(y)` is its
    next one. `k` () counts cycles, `looks` evaluations of `f` before the first, and `made`
    (*batch, max_iter + 1) for each cycle its products and the evaluation of its outcome. `first`
    has `|f(y) - y|` and `|f(y)|` at the start, see `_judge`.
    """

    y: PyTree
    pending: Array
    plain: Array
    log: Log
    best: Solution
    k: Array
    looks: Array
    made: Array
    first: tuple[Array, ...]

    def going(self, limit: Array) -> Array:
        """Whose solve is not at its end."""
        return (self.best.status == Status.MAX_ITER) & (self.log.products < limit)


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

    Args:
        plain: of these, at most so many plain iterations `y <- f(y)` to begin with. A sample makes
            them for as long as its residual falls so fast that it will converge by them. They cost
            nothing beside the product, and where all samples converge nothing of the method is
            computed or held.
        begins_at_constant: the start is `f(0)`, which is not evaluated then.
    """

    PRODUCTS: ClassVar[int] = 1

    plain: int = 0
    begins_at_constant: bool = dataclasses.field(default=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("plain", self.plain, low=0)

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

    def from_constant(self) -> Self:
        return dataclasses.replace(self, begins_at_constant=True)

    def solve(self, f, z0, *, space, limit, indexing, loop) -> Solution:
        if loop != "while":
            raise ValueError(
                f"{type(self).__name__} cannot be unrolled: use backward='ift', 'phantom' or 'jfb'"
            )
        constant = z0 if self.begins_at_constant else f(jax.tree.map(jnp.zeros_like, z0))
        offset = space.norm(constant)
        exponent = _exponent(offset)
        rule = Rule(self.stop_mode, self.tolerance(*jax.tree.leaves(z0)), limit)

        def apply(p: PyTree) -> PyTree:  # p as large as f(0), so that the difference is accurate
            size = space.norm(p)
            shift = _exponent(size) - exponent
            image = f(space.scale(p, jnp.ldexp(jnp.ones_like(size), -shift)))
            return space.scale(space.sub(image, constant), jnp.ldexp(jnp.ones_like(size), shift))

        def look(c: _Pending) -> tuple[_Pending, PyTree]:
            fy = f(c.y)
            now, seen = _judge(space, rule, indexing, c, fy, offset)
            return (_plainly(space, rule, self.plain, c, now, seen, fy) if self.plain else seen), fy

        def one_cycle(c: _Pending) -> _Pending:
            if self.plain:
                c, fy = lax.while_loop(
                    lambda at: space.any(at[0].pending), lambda at: look(at[0]), (c, c.y)
                )
            else:
                c, fy = look(c)
            moving = c.going(limit)
            cycle_rule = dataclasses.replace(rule, bar=_bar(rule, c.first, c.best.z))

            def another(y: PyTree, r: PyTree, log: Log) -> tuple[PyTree, Log]:
                new, log = self.cycle(space, apply, y, r, log, cycle_rule)
                return space.where(moving, new, y), log

            # a cycle costs its memory even if no sample makes a product
            none = lambda y, r, log: (y, log)
            log = c.log._replace(active=moving)
            y, log = lax.cond(space.any(moving), another, none, c.y, space.sub(fy, c.y), log)
            products = -(-(log.products - c.log.products) // self.PRODUCTS) * self.PRODUCTS
            made = put(c.made, products + moving.astype(jnp.int32), c.k, c.made.ndim - 1)
            return c._replace(y=y, pending=moving, log=log, k=c.k + 1, made=made)

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
        start = _Pending(
            y=z0,
            pending=all_of_them,
            plain=all_of_them & (self.plain > 0),
            log=log,
            best=best,
            k=jnp.zeros((), jnp.int32),
            looks=none,
            made=jnp.broadcast_to(none[..., None], (*none.shape, self.max_iter + 1)),
            first=(best.abs_residual, best.abs_residual),
        )
        end = lax.while_loop(lambda c: space.any(c.pending), one_cycle, start)
        solution = end.best._replace(
            evals=jnp.concatenate([end.looks[..., None], end.made], -1),
            abs_trace=end.log.abs_trace,
            rel_trace=end.log.rel_trace,
        )
        return hold(solution.after(0 if self.begins_at_constant else 1))


def _judge(
    space: Space, rule: Rule, indexing: tuple[int, ...], c: _Pending, fy: PyTree, offset: Array
) -> tuple[Array, _Pending]:
    """Measures the pending iterates, after which none is pending; `offset` is the norm of f(0).

    The residual and size at the start are noted, or `offset` where that is less: beside a far
    start, any residual is small.

    Returns:
        What decides among iterates, and where the solve stands then.
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
    stuck = (c.k > 0) & ~(now < PROGRESS * record) & (log.products < rule.limit)
    status = jnp.where(stuck, Status.STALLED, Status.MAX_ITER)
    status = jnp.where((residual.finite & log.finite) | c.plain, status, Status.NONFINITE)
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
        record=jnp.where(c.pending, now, log.record),
        abs_trace=write(log.abs_trace, log.steps - 1, residual.abs, known),
        rel_trace=write(log.rel_trace, log.steps - 1, residual.rel, known),
    )
    return now, c._replace(
        pending=jnp.zeros_like(c.pending),
        log=log,
        best=best,
        looks=c.looks + (c.pending & (c.k == 0)).astype(jnp.int32),
        first=first,
    )


def _plainly(
    space: Space, rule: Rule, most: int, c: _Pending, now: Array, seen: _Pending, fy: PyTree
) -> _Pending:
    """The next plain iterates, and the best ones so far of samples that make no more of them.

    Args:
        most: how many of them there may be.
        c, seen: where the solve stood before and after `y` was measured; `now` is what it showed.
        fy: `f(y)`.
    """
    best, log = seen.best, seen.log
    trace = log.abs_trace if rule.stop_mode == "abs" else log.rel_trace
    left = jnp.minimum(most, rule.limit) - log.products
    late = is_late(read(trace, log.steps - 1 - WATCHED), now, rule.tol, left)
    late &= log.products > WATCHED
    going = c.plain & c.pending & seen.going(rule.limit)
    on = going & jnp.isfinite(now) & (left > 0) & ~late
    back = going & ~on & (best.steps != log.steps)
    products = log.products + on.astype(jnp.int32)
    steps = jnp.where(on, products, jnp.where(back, best.steps, log.steps))
    return seen._replace(
        y=space.where(on, fy, space.where(back, best.z, c.y)),
        pending=on | back,
        plain=on,
        log=log._replace(products=products, steps=steps),
    )


def _bar(rule: Rule, first: tuple[Array, ...], y: PyTree) -> Array:
    """What a residual must not exceed, rounding included, whose state may have grown."""
    residual, size = first
    enough = rule.tol if rule.stop_mode == "abs" else jnp.maximum(rule.tol, resolution(y)) * size
    return jnp.maximum(enough, FALL * residual)


def _exponent(x: Array) -> Array:
    """int32 e with 2^e <= x < 2^(e+1); 0 for 0, infinity and NaN."""
    return floor_log2(jnp.where((x > 0) & jnp.isfinite(x), x, 1))


def divide(a: Array, b: Array, where: Array) -> Array:
    """a / b, and 0 where `where` does not hold."""
    return jnp.where(where, a / jnp.where(where, b, 1), 0)


def resolution(x: PyTree) -> float:
    """The coarsest machine epsilon among the leaves."""
    return max(float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree.leaves(x))
