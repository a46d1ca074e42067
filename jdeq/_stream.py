"""`solve_stream`: many problems through a batch whose places are refilled as they come free."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from ._checks import check_int
from ._communication import axes_of
from ._hoist import hoist
from ._info import SolverInfo
from ._loop import Progress, Solution, advance, begin, hold, running, unmeasured
from ._space import PyTree, Space
from ._state import check_state
from .solvers.base import IterativeSolver, Solver
from .solvers.registry import resolve_solver

ONE = Space(0)  # each slot is a problem of its own, at its own iteration
Function = Callable[[PyTree, PyTree], PyTree]


def solve_stream(
    f: Function,
    requests: PyTree,
    *,
    z0: PyTree | None = None,
    slots: int = 64,
    halvings: int = 2,
    solver: str | Solver = "fixed_point_iter",
    **solver_options: Any,
) -> tuple[PyTree, SolverInfo]:
    """The fixed points `z* = f(z*, x)` of many requests `x`, a batch of `slots` at a time.

    A batch takes as many iterations as its slowest sample. Here a sample that has stopped makes
    room for the next request at once, so that the time follows the mean number of iterations; and
    once no request is left and half of the slots are free, the rest goes on in a batch of half the
    size. Each request gets the answer, status and traces that it would get alone. For inference:
    there is no reverse-mode derivative. Call it under `jit`: outside, each call compiles anew.

    Args:
        f: `f(z, x)`, on batches of any size (*slots, ...) of states and requests, sample by sample.
        requests: pytree of arrays `(N, ...)`.
        z0: start states, a pytree of floating arrays `(N, ...)`. None: zeros like `requests`.
        slots: how many requests are worked on at a time; `N` if that is less.
        halvings: how often the batch may be halved at the end. `f` is compiled once more for each.
            With `slots=N` this alone is left: a batch that shrinks as its samples converge.
        solver: name or object of a solver that iterates: `"fixed_point_iter"`, `"anderson"`,
            `"broyden"` or your own. Anderson with its short window suits best: `"broyden"` reads
            all of its history in each iteration here.
        **solver_options: options of a solver given by name.

    Returns:
        `z*`, a pytree of arrays `(N, ...)`, and a `jdeq.SolverInfo` of N samples; its `nfe` ()
        counts the evaluations of `f` on a batch.

    Raises:
        TypeError: the solver has an iteration of its own (Newton, GMRES, fallback); an integer
            leaf in `z0`; `f` changes structure, shape or dtype.
        ValueError: arrays of `requests` and `z0` differ in their number of samples.

    Example:
        >>> import jax.numpy as jnp, jdeq
        >>> x = jnp.linspace(0.1, 0.9, 100)[:, None]  # the closer to 1, the slower
        >>> z, info = jdeq.solve_stream(lambda z, x: x * z + 1, x, slots=8, max_iter=200)
        >>> bool(jnp.allclose(z, 1 / (1 - x), rtol=1e-4)), bool(info.converged.all())
        (True, True)
    """
    forward = resolve_solver(solver, solver_options)
    if not isinstance(forward, IterativeSolver):
        raise TypeError(f"solve_stream needs a solver that iterates, got {forward!r}")
    check_int("slots", slots, low=1)
    check_int("halvings", halvings, low=0)
    requests = jax.tree.map(jnp.asarray, requests)
    z0 = jax.tree.map(jnp.zeros_like, requests) if z0 is None else z0
    z0 = check_state(z0, 1)
    shapes = [x.shape for x in jax.tree.leaves((z0, requests))]
    if any(shape[:1] != shapes[0][:1] for shape in shapes):
        raise ValueError(f"requests and z0 need one leading axis of samples, got {shapes}")
    function, _, _ = hoist(lambda z: f(z, requests), z0)  # for its checks
    if axes := sum(axes_of(function, z0), ()):
        raise TypeError(
            f"f communicates over {', '.join(map(repr, axes))}: in a stream each request is solved "
            "on its own, so use jdeq.deq"
        )
    queue = _Queue(f, forward, requests, z0, shapes[0][0])
    best, passes = queue.solve(min(slots, queue.size), halvings)
    best = hold(best)
    info = SolverInfo(
        abs_residual=best.abs_residual,
        rel_residual=best.rel_residual,
        steps=best.steps,
        nfe=passes,
        status=best.status,
        solver_status=best.status,
        abs_trace=best.abs_trace[..., 1 : forward.max_iter + 1],
        rel_trace=best.rel_trace[..., 1 : forward.max_iter + 1],
    )
    return best.z, info


class _Batch(NamedTuple):
    """What is being worked on; leading axis: the slots.

    `who` (slots,) int32 is the request in each slot, `x` its data, `at` where its solve stands;
    `waiting` () int32 is the next request, `found` the solutions `(N, ...)` so far, `passes` ()
    int32 how often `f` was evaluated. A slot is free if its `who` is N or more.
    """

    who: Array
    x: PyTree
    at: Progress
    waiting: Array
    found: Solution
    passes: Array


class _Queue:
    """Requests `(size, ...)` with their start states."""

    def __init__(
        self, f: Function, solver: IterativeSolver, requests: PyTree, z0: PyTree, size: int
    ):
        self.f, self.solver, self.requests, self.z0, self.size = f, solver, requests, z0, size

    def solve(self, slots: int, halvings: int) -> tuple[Solution, Array]:
        """The solutions `(N, ...)`, and how often `f` was evaluated on a batch."""
        who = jnp.arange(slots, dtype=jnp.int32)
        x, at = self._enter(who)
        batch = _Batch(
            who=who,
            x=x,
            at=at,
            waiting=jnp.asarray(slots, jnp.int32),
            found=unmeasured(Space(1), self.z0, length=self.solver.passes, n_states=0),
            passes=jnp.zeros((), jnp.int32),
        )
        for _ in range(halvings):
            if slots == 1:
                break
            slots = -(-slots // 2)
            batch = self._shrink(self._run(batch, until=slots), slots)
        batch = self._run(batch, until=0)
        return batch.found, batch.passes

    def _enter(self, who: Array) -> tuple[PyTree, Progress]:
        """Requests `who` at their start; some request where there is none of that number."""
        x, z = jax.tree.map(
            lambda a: jnp.take(a, who, axis=0, mode="clip"), (self.requests, self.z0)
        )
        return x, jax.vmap(lambda z: begin(self.solver, z, space=ONE))(z)

    def _run(self, batch: _Batch, *, until: int) -> _Batch:
        """Works until none is waiting and at most `until` slots are taken."""

        def go_on(b: _Batch) -> Array:
            return (b.waiting < self.size) | (jnp.sum(b.who < self.size) > until)

        def one_pass(b: _Batch) -> _Batch:
            fz = self.f(b.at.z, b.x)
            at = jax.vmap(
                lambda c, fz: advance(self.solver, c, fz, space=ONE, limit=self.solver.max_iter)
            )(b.at, fz)
            b = b._replace(at=at, passes=b.passes + 1)
            done = ~running(at, self.solver.max_iter) & (b.who < self.size)
            return lax.cond(jnp.any(done), self._refill, lambda b, done: b, b, done)

        return lax.while_loop(go_on, one_pass, batch)

    def _refill(self, b: _Batch, done: Array) -> _Batch:
        """Takes the solutions out that are `done`, and requests in."""
        where = jnp.where(done, b.who, self.size)
        found = jax.tree.map(
            lambda every, some: every.at[where].set(some, mode="drop"), b.found, b.at.best
        )
        arrivals = b.waiting + jnp.cumsum(done, dtype=jnp.int32) - 1
        who = jnp.where(done, arrivals, b.who)
        x, at = Space(1).where(done, self._enter(who), (b.x, b.at))
        waiting = b.waiting + jnp.sum(done, dtype=jnp.int32)
        return b._replace(who=who, x=x, at=at, waiting=waiting, found=found)

    def _shrink(self, b: _Batch, slots: int) -> _Batch:
        """The slots that are taken, at most `slots`, in a smaller batch."""
        taken = jnp.argsort(b.who >= self.size, stable=True)[:slots]
        who, x, at = jax.tree.map(lambda a: a[taken], (b.who, b.x, b.at))
        return b._replace(who=who, x=x, at=at)
