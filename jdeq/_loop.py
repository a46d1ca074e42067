"""The one iteration loop: evaluate, measure, keep the best, decide who stops, step."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from ._evidence import Evidence
from ._info import Status
from ._pace import WATCHED, is_late
from ._space import PyTree, Space, put

REL_EPS = 1e-9
UNMEASURED = -1.0  # in a trace, while the loop runs: no residual is negative
FLOOR, FLOOR_WAIT = 16, 8  # residuals below FLOOR ulp, not improved for FLOOR_WAIT iterations


class Solution(NamedTuple):
    """A solve's outcome, everything per sample.

    `z` is the returned state, `states` the sampled ones; `abs_residual`, `rel_residual`,
    `steps`, `status` as in `SolverInfo`; `evals` (*batch, parts) int32 counts the evaluations of
    `f` that the sample takes, in parts that a batch goes through one after the other, each as
    often as its slowest sample; while the loop runs it is (*batch,). The traces are
    `(*batch, max_iter)`. `memory` is the solver's own last state, where it was asked for;
    `solver_status` its own status, where steps followed upon the solve.
    """

    z: PyTree
    abs_residual: Array
    rel_residual: Array
    steps: Array
    evals: Array
    status: Array
    abs_trace: Array
    rel_trace: Array
    states: tuple[PyTree, ...]
    memory: Any = ()
    solver_status: Array | None = None

    def after(self, evaluations: int) -> "Solution":
        """The solution after so many more evaluations of `f`."""
        more = jnp.full_like(self.evals[..., :1], evaluations)
        return self._replace(evals=jnp.concatenate([self.evals, more], -1))

    @property
    def nfe(self) -> Array:
        """() int32: evaluations of `f` that the batch made."""
        batch_axes = tuple(range(self.evals.ndim - 1))
        return jnp.sum(jnp.max(self.evals, batch_axes, initial=0), dtype=jnp.int32)


class Residual(NamedTuple):
    """Norms per sample: of `f(z) - z`, the same relative to `size`, the norm of `f(z)`.

    `finite`: whether they, hence `f(z)`, are.
    """

    abs: Array
    rel: Array
    size: Array
    finite: Array


def measure(space: Space, z: PyTree, fz: PyTree) -> Residual:
    """The residual of `z`, in float32 at least; no gradient flows through it."""
    absolute, size = space.gap_and_norm(*lax.stop_gradient((z, fz)))
    finite = jnp.isfinite(absolute) & jnp.isfinite(size)
    return Residual(absolute, relative(absolute, size), size, finite)


def relative(absolute: Array, size: Array) -> Array:
    """`absolute / size`, or the largest number if that is less; 0 / 0 = 0.

    With TorchDEQ's `1e-9` in the denominator for sizes of 1 and more; smaller ones it would hide.
    """
    limits = jnp.finfo(absolute.dtype)
    size = size + REL_EPS * jnp.minimum(size, 1)
    return jnp.minimum(absolute / jnp.maximum(size, limits.tiny), limits.max)


class Verdict(NamedTuple):
    """`now` is the residual that decides, `small` whether it is below the tolerance, `converged`
    whether that is a solution's; `tol` is the tolerance, `eps` the dtype's.
    """

    now: Array
    small: Array
    converged: Array
    tol: float | Array
    eps: float


def judge(solver: Any, z: PyTree, residual: Residual, evidence: Evidence) -> Verdict:
    """What to make of a residual that has arrived in the evidence."""
    leaves = jax.tree.leaves(z)
    tol, eps = solver.tolerance(*leaves), max(float(jnp.finfo(x.dtype).eps) for x in leaves)
    absolute = solver.stop_mode == "abs"
    if absolute:
        now, enough = residual.abs, tol
    else:
        now, enough = residual.rel, jnp.maximum(tol, eps) * evidence.start
    small = residual.finite & (now < tol)
    noise = eps * residual.size
    sure = evidence.holds(residual.abs, residual.size, enough, noise, solver.damping, absolute)
    return Verdict(now, small, small & sure, tol, eps)


class Stepper(Protocol):
    """What the loop drives: see `jdeq.IterativeSolver`, whose members these are."""

    @property
    def max_iter(self) -> int: ...
    @property
    def stop_mode(self) -> Literal["rel", "abs"]: ...
    @property
    def return_final(self) -> bool: ...
    @property
    def asks_every(self) -> int: ...
    @property
    def passes(self) -> int: ...
    @property
    def leaps(self) -> bool: ...
    @property
    def gives_up(self) -> bool: ...
    @property
    def damping(self) -> float | Array: ...
    def tolerance(self, *leaves: Array) -> float | Array: ...
    def init(self, space: Space, z0: PyTree) -> Any: ...
    def step(self, space: Space, k: Array, z: PyTree, fz: PyTree, state: Any) -> Any: ...
    def recovers(self, state: Any) -> Array | bool: ...
    def inform(self, state: Any, going: Array, size: Array) -> Any: ...
    def freeze(self, space: Space, moving: Array, new: Any, old: Any) -> Any: ...


class Progress(NamedTuple):
    """Where a solve stands: `k` () int32 iterations are made, `z` is `z_k`."""

    k: Array
    z: PyTree
    solver: Any
    best: Solution
    evidence: Evidence


def begin(solver: Stepper, z0: PyTree, *, space: Space, indexing: tuple[int, ...] = ()) -> Progress:
    """Before the first evaluation."""
    best = unmeasured(space, z0, length=solver.passes, n_states=len(indexing))
    evidence = Evidence.none(jnp.zeros_like(best.abs_residual))
    return Progress(jnp.zeros((), jnp.int32), z0, solver.init(space, z0), best, evidence)


def running(c: Progress, limit: ArrayLike) -> Array:
    """Which samples go on."""
    return (c.best.status == Status.MAX_ITER) & (c.k <= limit)


def advance(
    solver: Stepper,
    c: Progress,
    fz: PyTree,
    *,
    space: Space,
    limit: ArrayLike,
    indexing: tuple[int, ...] = (),
) -> Progress:
    """One pass, given `fz = f(c.z)`: measures, keeps the best, decides who stops, steps."""
    best, active = c.best, running(c, limit)
    residual = measure(space, c.z, fz)
    evidence = c.evidence.arrive(residual.abs, residual.size)
    verdict = judge(solver, c.z, residual, evidence)
    now, converged = verdict.now, active & verdict.converged
    if solver.leaps:
        converged &= _is_near(space, c, converged, residual, evidence, verdict.eps)
    lowest = best.abs_residual if solver.stop_mode == "abs" else best.rel_residual
    eps = verdict.eps
    grown = evidence.grown(residual.size)
    tied = (now <= (1 + 4 * eps) * lowest) & (residual.abs < best.abs_residual)
    # all relative residuals are the same on the way to 0; one that ran away is no better
    better = ((now < lowest) | tied) & ~(verdict.small & ~verdict.converged & grown)
    take = active & residual.finite & (solver.return_final | better | converged)
    steps = jnp.where(take, c.k, best.steps)
    stalled = (jnp.where(take, residual.rel, best.rel_residual) < FLOOR * eps) & (
        c.k - steps >= FLOOR_WAIT
    )
    if solver.gives_up:
        stalled |= _is_late(c, now, verdict.tol, limit, solver.stop_mode)
    stalled = stalled & (verdict.tol > 0)  # 0 asks for all of the iterations
    status = jnp.where(stalled, Status.STALLED, Status.MAX_ITER)
    astray = verdict.small & grown & (c.k >= limit)
    status = jnp.where(astray, Status.DIVERGED, status)
    status = jnp.where(converged, Status.CONVERGED, status)
    alive = residual.finite | solver.recovers(c.solver)
    status = jnp.where(alive, status, Status.NONFINITE)

    def write(trace: Array, value: Array) -> Array:
        value = jnp.where(active, value, UNMEASURED)
        return put(trace, value, c.k, trace.ndim - 1)

    best = Solution(
        z=space.where(take, c.z, best.z),
        abs_residual=jnp.where(take, residual.abs, best.abs_residual),
        rel_residual=jnp.where(take, residual.rel, best.rel_residual),
        steps=steps,
        evals=best.evals + active.astype(jnp.int32),
        status=jnp.where(active, status, best.status).astype(jnp.int32),
        abs_trace=write(best.abs_trace, residual.abs),
        rel_trace=write(best.rel_trace, residual.rel),
        states=tuple(
            space.where(take & (c.k <= i), c.z, s)
            for i, s in zip(indexing, best.states, strict=True)
        ),
    )
    # a broken sample is at its best state again and never shows the solver its NaN, which
    # would come back as 0 * NaN in a derivative
    z = space.where(residual.finite, c.z, best.z)
    fz = space.where(residual.finite, fz, z)
    moving = (best.status == Status.MAX_ITER) & (c.k < limit)
    told = solver.inform(c.solver, moving, jnp.where(residual.finite, residual.abs, 0))
    z_next, state = solver.step(space, c.k, z, fz, told)
    state = solver.freeze(space, moving, state, c.solver)
    z_next = space.where(moving, z_next, z)
    nothing: Array | bool = False
    if solver.stop_mode == "rel":
        nothing = moving & residual.finite & evidence.vanished(residual.abs, residual.size)
        zero = space.sub(z, lax.stop_gradient(z))  # that a derivative goes through
        z_next = space.where(nothing, zero, z_next)
    evidence = evidence.leave(residual.abs, residual.finite, nothing)
    return Progress(c.k + 1, z_next, state, best, evidence)


def _is_late(c: Progress, now: Array, tol: ArrayLike, limit: ArrayLike, stop_mode: str) -> Array:
    """Whether, as the residual falls, it will not be below `tol` by `limit`."""
    trace = c.best.abs_trace if stop_mode == "abs" else c.best.rel_trace
    before = lax.dynamic_index_in_dim(trace, jnp.maximum(c.k - WATCHED, 0), -1, keepdims=False)
    return (c.k >= WATCHED) & is_late(before, now, tol, limit - c.k)


def _is_near(
    space: Space, c: Progress, mask: Array, residual: Residual, evidence: Evidence, eps: float
) -> Array:
    """Whether the samples of `mask` are about where the rest of their residual would be gone.

    Told by how far the best state is, and what has been taken off the residual since.
    """
    noise = eps * residual.size
    left = jnp.maximum(residual.abs, noise / 8)
    share = jnp.where(left > 0, left / jnp.maximum(c.best.abs_residual, left), 0)
    way = space.distance_where(mask, *lax.stop_gradient((c.z, c.best.z)), residual.size)
    return residual.size * (way * share) <= evidence.reach(residual.abs + noise, residual.size)


def outcome(c: Progress, max_iter: int) -> Solution:
    """The solution, once all samples have stopped. Iteration 0, `z0`, is not in its traces."""
    made = lambda trace: trace[..., 1 : max_iter + 1]
    best = c.best
    best = best._replace(abs_trace=made(best.abs_trace), rel_trace=made(best.rel_trace))
    return hold(best)._replace(memory=c.solver)


def hold(solution: Solution) -> Solution:
    """With the residual of the returned state in the traces where none was measured."""

    def held(trace: Array, residual: Array) -> Array:
        return jnp.where(trace == UNMEASURED, residual[..., None], trace)

    return solution._replace(
        abs_trace=held(solution.abs_trace, solution.abs_residual),
        rel_trace=held(solution.rel_trace, solution.rel_residual),
    )


def iterate(
    solver: Stepper,
    f: Callable[[PyTree], PyTree],
    z0: PyTree,
    *,
    space: Space,
    limit: Array,
    indexing: tuple[int, ...] = (),
    loop: Literal["while", "scan", "checkpointed scan"] = "while",
) -> Solution:
    """Runs `solver` until every sample has stopped.

    Pass k evaluates `f(z_k)`, so a solve of N iterations takes N + 1 evaluations and every state
    that may be returned has been measured. A sample stops when it converges, breaks, stalls or
    has made `limit` iterations (an int32 array that broadcasts to the batch shape, at most
    `solver.max_iter`); from then on its entries do not change by a bit.

    Args:
        loop: `"while"` stops with the last sample; the scans always make all the passes, which
            lets reverse mode through (`"checkpointed scan"` keeps only each pass's start).
    """

    def one_pass(c: Progress) -> Progress:
        return advance(solver, c, f(c.z), space=space, limit=limit, indexing=indexing)

    def several(c: Progress) -> Progress:  # a count that is known: an accelerator need not ask
        return lax.fori_loop(0, solver.asks_every, lambda _, c: one_pass(c), c)

    start = begin(solver, z0, space=space, indexing=indexing)
    if loop == "while":
        body = one_pass if solver.asks_every == 1 else several
        end = lax.while_loop(lambda c: space.any(running(c, limit)), body, start)
        evals = -(-end.best.evals // solver.asks_every) * solver.asks_every
    else:
        body = jax.checkpoint(one_pass) if loop == "checkpointed scan" else one_pass
        end, _ = lax.scan(lambda c, _: (body(c), None), start, None, length=solver.max_iter + 1)
        evals = jnp.full_like(end.best.evals, solver.max_iter + 1)
    return outcome(end, solver.max_iter)._replace(evals=evals[..., None])


def unmeasured(space: Space, z0: PyTree, *, length: int, n_states: int) -> Solution:
    """Before the first evaluation, with traces of this length.

    All entries derive from `z0`, so that sharding and vma follow it.
    """
    zero = jnp.zeros_like(space.dot(z0, z0))
    inf, count = zero + jnp.inf, zero.astype(jnp.int32)
    trace = jnp.broadcast_to(zero[..., None] + UNMEASURED, (*inf.shape, length))
    return Solution(
        z=z0,
        abs_residual=inf,
        rel_residual=inf,
        steps=count,
        evals=count,
        status=count + Status.MAX_ITER,
        abs_trace=trace,
        rel_trace=trace,
        states=(z0,) * n_states,
    )
