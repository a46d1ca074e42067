"""What a solution is worth, by means that no solver under test has a part in."""

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import numpy_ops
from .function import Function, State
from .jax_runs import place
from .runs import Outcome, Run

SLACK = 1.05  # float32 and float64 round differently
GRADIENT_FACTOR = 30  # an implicit gradient may be this much worse than the residuals


class WrongSolution(Exception):
    """A solve did not reach what was asked of it."""


def residual(function: Function, z: State) -> float:
    """The worst sample's `|f(z) - z| / |f(z)|`, with `f` evaluated by NumPy in float64."""
    theta = {name: a.astype(np.float64) for name, a in function.theta.items()}
    z = tuple(a.astype(np.float64) for a in z)
    fz = function.formula(numpy_ops, theta, function.graph, z)
    flat = lambda leaves: np.concatenate([a.reshape(len(a), -1) for a in leaves], axis=1)
    f_flat, z_flat = flat(fz), flat(z)
    worst = np.max(np.linalg.norm(f_flat - z_flat, axis=1) / np.linalg.norm(f_flat, axis=1))
    return float(worst) if np.isfinite(worst) else math.inf


def check_residual(function: Function, outcome: Outcome, tol: float) -> float:
    """The residual.

    Raises:
        WrongSolution: it is above `tol`.
    """
    found = residual(function, outcome.z)
    if not found <= SLACK * tol:
        raise WrongSolution(f"residual {found:.1e} > {tol:.0e}")
    return found


def gradient_error(function: Function, outcome: Outcome) -> float:
    """The distance from the reference gradient, relative to its norm, all of `theta` together."""
    want, got = reference(function).gradient, outcome.gradient
    assert got is not None
    norm = lambda tree: math.sqrt(sum(float(np.sum(np.square(a, dtype=float))) for a in tree))
    return norm([got[k] - want[k] for k in want]) / norm(want.values())


def check(
    function: Function, outcome: Outcome, tol: float, gradient_goal: float | None
) -> dict[str, float]:
    """The residual, and the gradient's error if there is a gradient.

    Args:
        gradient_goal: the largest error of a gradient that claims to be exact; None if it does
            not.

    Raises:
        WrongSolution: one of them is too large.
    """
    quality = {"residual": check_residual(function, outcome, tol)}
    if outcome.gradient is not None:
        error = quality["gradient_error"] = gradient_error(function, outcome)
        if gradient_goal is not None and not error <= gradient_goal:
            raise WrongSolution(f"gradient error {error:.1e} > {gradient_goal:.1e}")
    return quality


class Reference(NamedTuple):
    """A solution and its implicit gradient, far below any tolerance that is asked for."""

    z: State
    gradient: dict[str, np.ndarray]


@functools.cache
def reference(function: Function) -> Reference:
    """From plain iterations of `f`, and of its transposed Jacobian."""
    f, args = place(function)

    def settle(step: Callable[[Any], Any], start: Any) -> Any:
        def body(carry):
            x, k, _ = carry
            new = step(x)
            size = lambda x: sum(jnp.vdot(a, a) for a in x) ** 0.5
            return new, k + 1, size([a - b for a, b in zip(new, x, strict=True)]) / size(new)

        moving = lambda carry: (carry[1] < 80) & (carry[2] > 1e-6)
        return jax.lax.while_loop(moving, body, (start, 0, jnp.inf))[0]

    @jax.jit
    def solve(theta, graph, z0, v):
        z = settle(lambda z: f(z, (theta, graph)), z0)
        _, pull = jax.vjp(lambda theta, z: f(z, (theta, graph)), theta, z)
        y = settle(lambda y: tuple(a + b for a, b in zip(v, pull(y)[1], strict=True)), v)
        return z, pull(y)[0]

    z, gradient = solve(*args, function.z0, function.cotangent())
    return Reference(*jax.tree.map(np.asarray, (z, gradient)))


def loosest(
    tols: Iterable[tuple[float, float]],
    run: Run,
    passes: Callable[[Outcome], object],
) -> tuple[tuple[float, float], Outcome]:
    """The first of the `(tol, backward_tol)` whose outcome `passes` without raising.

    Raises:
        WrongSolution: none does; the reason is that of the last.
    """
    failure = WrongSolution("no tolerance to try")
    for pair in tols:
        outcome = run.outcome(*pair)
        try:
            passes(outcome)
        except WrongSolution as error:
            failure = error
        else:
            return pair, outcome
    raise failure
