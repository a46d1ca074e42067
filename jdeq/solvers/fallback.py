"""One solver after the other, for the samples that have not converged."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Self

import jax
import jax.numpy as jnp
from jax import Array, core, lax

from .._checks import check_int
from .._evidence import FALL, GROWTH
from .._info import Status
from .._loop import Solution, unmeasured
from .._method import is_same
from .._space import PyTree, Space
from .base import Solver
from .registry import resolve_solver


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fallback(Solver):
    """Tries solvers in turn: each starts where the one before left off, warm.

    Samples that have converged are not touched again. The others start at their best state so far
    if that is worth it: if its residual is a third of what it was after the first iteration and it
    is not twice as large as then, for that may have run away; else at `z0` again. Their `steps` and
    traces count on: stage i begins at the sum of the `max_iter` before it. A stage whose samples
    have all converged evaluates nothing.

    Costs what its stages cost, and holds the history of one of them at a time. For `f` on which a
    cheap solver does most of the samples, and a robust one the rest. The default chain ends with
    Newton's method, which solves where acceleration wanders, and cannot be unrolled: for
    `backward="unroll"` name a chain without it.

    Args:
        solvers: names or solver objects.
        max_iter: iterations of all stages together, shared equally by the stages given by name;
            objects bring their own. None: 50 for each name.
        tol, stop_mode: for the stages given by name; objects must agree with them.

    Raises:
        ValueError: no solvers, an unknown name, stages that disagree on `tol` or `stop_mode`, or
            a `max_iter` that the objects use up.

    Source: the usual practice of composing nonlinear solvers; Brune et al., SIAM Review 57 (2015).

    Example:
        >>> import jax.numpy as jnp, jdeq
        >>> steep = jnp.array([[0.3], [-4.0]])  # plain iteration solves the first sample only
        >>> solver = jdeq.Fallback(("fixed_point_iter", "broyden"), max_iter=40)
        >>> z, info = jdeq.deq(lambda z: steep * z + 1, jnp.zeros((2, 1)), solver=solver)
        >>> bool(info.converged.all())
        True
    """

    solvers: tuple[str | Solver, ...] = dataclasses.field(
        default=("anderson", "broyden", "newton"), kw_only=False
    )
    # an int once made
    max_iter: int | None = None  # pyright: ignore[reportIncompatibleVariableOverride]

    def __post_init__(self) -> None:
        object.__setattr__(self, "solvers", tuple(self.solvers))
        if not self.solvers:
            raise ValueError("solvers must name at least one solver")
        objects = [s for s in self.solvers if isinstance(s, Solver)]
        n_names = len(self.solvers) - len(objects)
        taken = sum(s.max_iter for s in objects)
        total = taken + 50 * n_names if self.max_iter is None else self.max_iter
        check_int("max_iter", total, low=0)
        if total < taken or (not n_names and total != taken):
            raise ValueError(f"max_iter={total}, but the solver objects make {taken} iterations")
        object.__setattr__(self, "max_iter", total)
        super().__post_init__()
        for stage in self.stages:
            if not is_same(stage.tol, self.tol) or stage.stop_mode != self.stop_mode:
                raise ValueError(
                    f"stages must agree on tol and stop_mode: {stage!r} against "
                    f"tol={self.tol}, stop_mode={self.stop_mode!r}"
                )

    def with_absolute_tol(self) -> Self:
        stages = [s if isinstance(s, str) else s.with_absolute_tol() for s in self.solvers]
        return dataclasses.replace(self, solvers=tuple(stages), stop_mode="abs")

    @property
    def stages(self) -> tuple[Solver, ...]:
        """The solver objects, in turn."""
        named = [s for s in self.solvers if isinstance(s, str)]
        left = (self.max_iter or 0) - sum(s.max_iter for s in self.solvers if isinstance(s, Solver))
        shares = [left // len(named) + (i < left % len(named)) for i in range(len(named))]
        settings = iter(
            {"max_iter": n, "tol": self.tol, "stop_mode": self.stop_mode} for n in shares
        )
        return tuple(
            s if isinstance(s, Solver) else resolve_solver(s, next(settings)) for s in self.solvers
        )

    @property
    def differentiates(self) -> bool:
        return any(stage.differentiates for stage in self.stages)

    def solve(self, f, z0: PyTree, *, space: Space, limit, indexing, loop) -> Solution:
        first, *others = self.stages
        at = lambda done, s: tuple(i - done for i in indexing if done < i <= done + s.max_iter)
        limits = jnp.broadcast_to(limit, space.batch_shape(z0)).astype(jnp.int32)
        solution = first.solve(
            f,
            z0,
            space=space,
            limit=jnp.minimum(limits, first.max_iter),
            indexing=at(0, first),
            loop=loop,
        )
        done, size_at_first = first.max_iter, _size(solution.abs_trace, solution.rel_trace)[..., :1]
        residual_at_first = solution.abs_trace[..., :1]
        for stage in others:
            going = (solution.status != Status.CONVERGED) & (limits > done)
            # beside a state that only went far away any residual is small: none to start from
            size = _size(solution.abs_residual, solution.rel_residual)[..., None]
            far = size > GROWTH * size_at_first
            no_better = FALL * solution.abs_residual[..., None] > residual_at_first
            back = going & jnp.any(far | no_better, -1)
            solution = solution._replace(
                z=space.where(back, z0, solution.z), steps=jnp.where(back, 0, solution.steps)
            )
            part = jnp.clip(limits - done, 0, stage.max_iter)
            run = functools.partial(
                stage.solve, f, space=space, indexing=at(done, stage), loop=loop
            )
            limit = jnp.where(going, part, -1)  # -1: not even measured
            following = _if_any(going, run, solution.z, limit, space)
            solution = _join(space, going, solution, following, done)
            done += stage.max_iter
        return solution


def _if_any(
    going: Array,
    run: Callable[..., Solution],
    z: PyTree,
    limit: Array,
    space: Space,
) -> Solution:
    """`run(z, limit=limit)`; where no sample is `going`, nothing of it, neither time nor memory."""
    one = lambda z, limit: run(z, limit=limit)._replace(memory=())
    traced, made = jax.make_jaxpr(one, return_shape=True)(z, limit)  # once, to know the shapes

    def compute(z: PyTree, limit: Array) -> Solution:
        flat = core.eval_jaxpr(traced.jaxpr, traced.consts, *jax.tree.leaves((z, limit)))
        return jax.tree.unflatten(jax.tree.structure(made), flat)

    def skip(z: PyTree, limit: Array) -> Solution:
        none = unmeasured(space, z, length=made.abs_trace.shape[-1], n_states=len(made.states))
        return none._replace(evals=jnp.broadcast_to(none.evals[..., None], made.evals.shape))

    return lax.cond(space.any(going), compute, skip, z, limit)


def _size(absolute: Array, relative: Array) -> Array:
    """`|f(z)|`, of which these are the residuals."""
    return absolute / jnp.maximum(relative, jnp.finfo(relative.dtype).tiny)


def _join(space: Space, ran: Array, first: Solution, second: Solution, done: int) -> Solution:
    """`second` took over from `first` at iteration `done`, for the samples for which it `ran`."""
    later = jnp.where(second.steps > 0, done + second.steps, first.steps)

    def join(trace: Array, following: Array, residual: Array) -> Array:
        following = jnp.where(ran[..., None], following, residual[..., None])
        return jnp.concatenate([trace, following], -1)

    return Solution(
        z=space.where(ran, second.z, first.z),
        abs_residual=jnp.where(ran, second.abs_residual, first.abs_residual),
        rel_residual=jnp.where(ran, second.rel_residual, first.rel_residual),
        steps=jnp.where(ran, later, first.steps),
        evals=jnp.concatenate([first.evals, second.evals], -1),
        status=jnp.where(ran, second.status, first.status),
        abs_trace=join(first.abs_trace, second.abs_trace, first.abs_residual),
        rel_trace=join(first.rel_trace, second.rel_trace, first.rel_residual),
        states=first.states + second.states,
    )
