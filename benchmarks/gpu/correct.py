"""Every solver with every backward against dense solves in float64."""

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jdeq
from jdeq.backward.registry import BACKWARDS
from jdeq.solvers.registry import SOLVERS, resolve_solver

from .context import Context, Jobs, Row
from .dense_solve import CURVE, Theta, cotangent, distance, gradient, problem, solution

NOTES = """`f(z) = z w + 0.3 tanh z + x` with a symmetric `w`, (affine where a linear solver works
forward), beside NumPy's dense solves in float64. Phantom and JFB are compared with the gradients
that they stand for, SHINE with the implicit one, which it estimates. `bound` is what was asked."""

LINEAR = ("gmres", "bicgstab", "cg", "neumann")
ITERATIONS, TOL = 200, 1e-12
STEPS = 5  # of the phantom gradient
BOUND = 1e-9  # of solution and gradient in float64
# 0.2 is the smallest eigenvalue of I - J; the tolerances are the solvers' own
ROUNDED = (
    ("float32", "highest", 5 * 2.0 ** (-23 * 0.75)),
    ("float32", "default", 5e-3),  # TF32 has ten bits
    ("bfloat16", "default", 5 * 2.0 ** (-7 * 0.75)),
)


def jobs(context: Context) -> Jobs:
    jax.config.update("jax_enable_x64", True)
    theta = problem(2, 4) if context.quick else problem(8, 32)
    forwards = [name for name in SOLVERS.entries if name not in LINEAR]
    linear = list(SOLVERS.entries)
    if context.quick:
        forwards, linear = forwards[:1], ["gmres"]
    for name in forwards:
        backwards = [b for b in BACKWARDS.entries if goes_with(b, name)]
        if context.quick:
            backwards = ["ift", "jfb"]
        checks = [functools.partial(with_backward, theta, name, b) for b in backwards]
        yield f"{name}, float64", functools.partial(together, checks)
    checks = [functools.partial(with_linear, theta, name) for name in linear]
    yield "linear solvers of IFT, float64", functools.partial(together, checks)
    affine = ["gmres"] if context.quick else LINEAR
    checks = [functools.partial(affine_forward, theta, name) for name in affine]
    yield "linear solvers forward, float64", functools.partial(together, checks)
    for dtype, precision, bound in ROUNDED[-1:] if context.quick else ROUNDED:
        checks = [functools.partial(rounded, theta, n, dtype, precision, bound) for n in forwards]
        yield f"{dtype}, precision {precision}", functools.partial(together, checks)


def together(checks: list[functools.partial[Row]]) -> list[Row]:
    """XLA compiles outside of the interpreter's lock."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(checked, checks))


def checked(check: functools.partial[Row]) -> Row:
    """What it finds; an error is a finding too."""
    try:
        return check()
    except Exception as error:
        solver, *others = map(str, check.args[1:])
        return {
            "solver": solver,
            "backward": ", ".join(others),
            "ok": False,
            "status": f"{type(error).__name__}: {error}"[:200],
        }


def f(theta: Theta, z: jax.Array, curve: float = CURVE) -> jax.Array:
    return z @ theta.w + curve * jnp.tanh(z) + theta.x


def goes_with(backward: str, solver: str) -> bool:
    """Whether the backward takes that solver, in a form that a dense solve can stand for."""
    made = resolve_solver(solver, {})
    return {
        "shine": isinstance(made, jdeq.Broyden),
        "unroll": not isinstance(made, jdeq.Newton),
    }.get(backward, True)


def solver_of(name: str) -> jdeq.Solver:
    return resolve_solver(name, {"max_iter": ITERATIONS, "tol": TOL})


def with_backward(theta: Theta, forward: str, backward: str) -> Row:
    """A gradient, and the solution on its way."""
    rule: Any = backward
    right, bound = gradient(theta, "implicit"), BOUND
    if backward == "ift":
        rule = jdeq.IFT(tol=TOL, max_iter=ITERATIONS)
    elif backward == "phantom":
        rule, right = jdeq.PhantomGrad(STEPS), gradient(theta, "phantom", STEPS)
    elif backward == "jfb":
        right = gradient(theta, "jfb")
    elif backward == "unroll":
        bound = 1e-6  # the derivative of the iterates arrives after the iterates
    elif backward == "shine":
        bound = 1.0
    return measured(theta, forward, backward, rule, right, bound)


def with_linear(theta: Theta, name: str) -> Row:
    """The implicit gradient by one linear solver."""
    rule = jdeq.IFT(solver_of(name))
    return measured(theta, "anderson", f"ift: {name}", rule, gradient(theta, "implicit"), BOUND)


def measured(
    theta: Theta, forward: str, backward: str, rule: Any, right: Theta, bound: float
) -> Row:
    v = cotangent(theta)

    @jax.jit
    def value_and_gradient(theta, v):
        def loss(theta):
            solver = solver_of(forward)
            z, info = jdeq.deq(lambda z: f(theta, z), 0 * v, solver=solver, backward=rule)
            return jnp.vdot(v, z), (z, info)

        return jax.grad(loss, has_aux=True)(theta)

    found, (z, info) = value_and_gradient(theta, v)
    row = figures(forward, backward, "float64", z, solution(theta), BOUND, info)
    row["gradient error"] = distance(found, right)
    row["ok"] = row["ok"] and row["gradient error"] <= bound
    row["bound"] = bound
    return row


def affine_forward(theta: Theta, name: str) -> Row:
    """A linear solver where `f` is affine."""
    z, info = solve(solver_of(name), theta, 0.0)
    right = solution(theta, curve=0.0)
    return figures(name, "none, affine f", "float64", z, right, BOUND, info)


def rounded(theta: Theta, name: str, dtype: str, precision: str, bound: float) -> Row:
    """A solve in few digits, beside the dense one of the same rounded numbers."""
    theta = Theta(*(np.asarray(jnp.asarray(a, dtype)) for a in theta))
    with jax.default_matmul_precision(precision):
        z, info = solve(resolve_solver(name, {"max_iter": 100}), theta, CURVE)
    return figures(name, "none", f"{dtype}, {precision}", z, solution(theta), bound, info)


def solve(solver: jdeq.Solver, theta: Theta, curve: float) -> Any:
    @jax.jit
    def run(theta):
        return jdeq.deq(lambda z: f(theta, z, curve), jnp.zeros_like(theta.x), solver=solver)

    return run(theta)


def figures(
    solver: str, backward: str, dtype: str, z: Any, right: np.ndarray, bound: float, info: Any
) -> Row:
    error = distance([z], [right])
    names = sorted({jdeq.Status(s).name for s in np.asarray(info.status).tolist()})
    return {
        "solver": solver,
        "backward": backward,
        "dtype": dtype,
        "solution error": error,
        "gradient error": None,
        "bound": bound,
        "ok": error <= bound,
        "status": ", ".join(names),
        "NFE": int(info.nfe),
    }
