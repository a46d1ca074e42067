"""`deq`, the entry point."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

from jax import Array

from ._checks import check_int, whole_number
from ._info import SolverInfo
from ._problem import Problem
from ._space import PyTree
from ._state import check_like
from ._warn import warn_of_failures
from .backward.base import Backward
from .backward.ift import IFT
from .backward.registry import resolve_backward
from .solvers.base import Solver
from .solvers.registry import resolve_solver


def deq(
    f: Callable[[PyTree], PyTree],
    z0: PyTree,
    *,
    solver: str | Solver = "fixed_point_iter",
    backward: str | Backward = "ift",
    batch_dims: int = 1,
    n_states: int = 1,
    indexing: Sequence[int] | None = None,
    max_iter: int | Array | None = None,
    adjoint0: PyTree | None = None,
    on_failure: Literal["ignore", "warn"] = "ignore",
    **solver_options: Any,
) -> tuple[PyTree, SolverInfo]:
    """The fixed point `z* = f(z*)`, with a gradient that does not depend on how it was found.

    Gradients reach everything `f` closes over: arrays, pytrees, modules. Works under `jit`,
    `grad`, `vmap`, `scan`, `shard_map`, in any mix. Outside `jit`, as in a notebook, `f` is traced
    at each call, and the compiled solve of an equal trace is used again, whatever the arrays and
    Python floats in `f`: a call takes some milliseconds more than a jitted one. Other integers or
    shapes compile anew, in a second or more; `jdeq.clear_cache` frees what was compiled. Train
    inside `jit`.

    `f` may communicate over an axis of a `shard_map`, or the `axis_name` of a `vmap`. If that is
    about the state (`psum` of partial products, `pmean` over lanes), the parts of a sample along
    the axis are one system: norms and inner products run over it, and all parts stop together. If
    it is not (parameters are gathered), samples stay independent, and devices go on until the last
    one has stopped. Without `shard_map`'s `check_vma` each device counts as holding a part.

    Args:
        f: the equilibrium function; keeps structure, shapes and dtypes of its argument, and
            treats the samples of a batch independently.
        z0: start state, a pytree of floating arrays. Their first `batch_dims` axes count
            independent problems: with the default 1, a vector `(D,)` is D *scalar* problems.
            For one problem of D unknowns pass `batch_dims=0`, or a state `(1, D)`.
        solver: `"fixed_point_iter"`, `"simple_fixed_point_iter"`, `"anderson"`, `"broyden"`,
            `"newton"`, `"fallback"`, a registered name, or an object such as
            `jdeq.Broyden(max_iter=30, tol=1e-4)`. (`"gmres"` and its kin solve affine `f` only:
            they are there for the backward solve.)
        backward: `"ift"`, `"phantom"`, `"jfb"`, `"unroll"`, `"shine"`, a registered name, or an
            object such as `jdeq.PhantomGrad(steps=5, tau=0.8)`.
        batch_dims: how many leading axes are independent samples.
        n_states: return this many states of the solve in `info.states`, evenly spread over the
            iterations and ending with `z*`; each carries gradients.
        indexing: the iterations at which to sample states instead, at most `max_iter`.
        max_iter: an int is an option of a solver given by name. An integer *array*, traced or
            not, stops any solver there at run time (at most at its own `max_iter`), so a random
            number of iterations does not recompile.
        adjoint0: warm start of the backward solve (`backward="ift"`): the adjoint of a similar
            solve, a state like `z0`. It has no influence on `z*`, and the gradient with respect to
            it is, by definition, the adjoint `y = v + J^T y` that was found: differentiate by it
            to get the next start.
        on_failure: `"warn"` prints a line when samples did not converge, also under `jit`.
        **solver_options: options of a solver given by name: `tol=1e-4`, `stop_mode="abs"`, ...

    Returns:
        `z*`, like `z0`: the state with the lowest residual met (no list of states, as TorchDEQ's:
        `z[-1]` is the last sample). And a `jdeq.SolverInfo`, whose
        `status` tells of every sample whether, and why not, it converged: nothing is raised for
        that.

    Raises:
        TypeError: an unknown option; an integer leaf; `f` wants more than the state, changes
            structure, shape or dtype, or makes or writes variables of a Flax module.
        ValueError: an unknown name; a value out of range; too few axes for `batch_dims`.

    Example:
        >>> import jax, jax.numpy as jnp, jdeq
        >>> w, x = 0.1 * jnp.ones((3, 3)), jnp.ones((5, 3))
        >>> def loss(w):
        ...     z, info = jdeq.deq(lambda z: jnp.tanh(z @ w + x), jnp.zeros((5, 3)))
        ...     return z.sum()
        >>> jax.jit(jax.grad(loss))(w).shape
        (3, 3)
    """
    limit = whole_number("max_iter", max_iter)
    if isinstance(limit, int):
        solver_options["max_iter"], limit = limit, None
    if on_failure not in ("ignore", "warn"):
        raise ValueError(f"on_failure must be 'ignore' or 'warn', got {on_failure!r}")
    forward = resolve_solver(solver, solver_options)
    gradient = resolve_backward(backward)
    problem = Problem.build(
        f,
        z0,
        forward,
        batch_dims=batch_dims,
        limit=limit,
        indexing=schedule(forward.max_iter, n_states, indexing),
        warn=on_failure == "warn",
    )
    if adjoint0 is not None:
        if not isinstance(gradient, IFT):
            raise ValueError(f"adjoint0 is for backward='ift', not for {gradient!r}")
        adjoint0 = check_like(problem.z0, adjoint0, "adjoint0")
        problem = dataclasses.replace(problem, adjoint0=adjoint0)
    solution = gradient(problem)
    sampled = n_states > 1 or indexing is not None or solution.states
    states = (*solution.states, solution.z) if sampled else ()
    info = problem.info(solution)._replace(states=states)
    if problem.warn:
        warn_of_failures("forward", info)
    return solution.z, info


def schedule(max_iter: int, n_states: int, indexing: Sequence[int] | None) -> tuple[int, ...]:
    """The iterations, before the last, at which states are sampled."""
    check_int("n_states", n_states, low=1)
    if indexing is None:
        if n_states > max(1, max_iter):
            raise ValueError(f"n_states={n_states} needs max_iter >= {n_states}, got {max_iter}")
        gap = max_iter // n_states
        return tuple(max_iter - i * gap for i in range(n_states - 1, 0, -1))
    if n_states != 1:
        raise ValueError("pass n_states or indexing, not both")
    for i in indexing:
        check_int("indexing", i, low=1)
        if i > max_iter:
            raise ValueError(f"indexing asks for iteration {i}, beyond max_iter={max_iter}")
    if any(a >= b for a, b in zip(indexing, indexing[1:], strict=False)):
        raise ValueError(f"indexing must ascend, got {tuple(indexing)}")
    return tuple(i for i in indexing if i < max_iter)
