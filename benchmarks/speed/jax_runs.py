"""Runs and bare evaluations in JAX, whatever the solver."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import linear_call

from . import jax_ops
from .function import Function
from .runs import Counts, Outcome, Run, Task

# solve(f, z0, (theta, graph), tol, backward_tol) -> z, nfe; with f(z, (theta, graph))
Solve = Callable[..., tuple[Any, Any]]


class Counters:
    """Counts on the host as compiled code runs.

    A callback's result is added to what passes through, so that code which XLA drops is not
    counted.
    """

    def __init__(self) -> None:
        self.evaluations = self.products = 0

    def _tick(self, name: str, x: jax.Array) -> jax.Array:
        def host(_) -> np.ndarray:
            setattr(self, name, getattr(self, name) + 1)
            return np.zeros((), np.float32)

        return x + jax.pure_callback(host, jax.ShapeDtypeStruct((), jnp.float32), x.ravel()[0])

    def watch(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """`f(z, args)`, counted; its products by the transpose of a linear identity."""

        @jax.custom_jvp
        def tag(x):
            return self._tick("evaluations", x)

        @tag.defjvp
        def tag_jvp(primals, tangents):
            identity, transposed = lambda _, t: t, lambda _, t: self._tick("products", t)
            return tag(primals[0]), linear_call(identity, transposed, (), tangents[0])

        return lambda z, args: f((tag(z[0]), *z[1:]), args)


def place(function: Function) -> tuple[Any, Any]:
    """`f(z, args)`, and `args` on the device."""
    formula = function.jax_formula or function.formula
    args = jax.device_put((function.theta, function.graph))
    return lambda z, args: formula(jax_ops, args[0], args[1], z), args


def jit_task(function: Function, task: Task, solve: Solve, f: Any) -> Any:
    """`(args, z0, tol, backward_tol) -> z, nfe` and, in a gradient task, the gradient."""
    cotangent = jax.device_put(function.cotangent())

    def loss(theta, graph, z0, tol, backward_tol, cotangent):
        z, nfe = solve(f, z0, (theta, graph), tol, backward_tol)
        value = sum(jnp.vdot(a, b) for a, b in zip(z, cotangent, strict=True))
        return value, (z, nfe)

    @jax.jit
    def run(args, z0, tol, backward_tol, cotangent):
        theta, graph = args
        if task.backward is None:
            return *solve(f, z0, args, tol, backward_tol), None
        differentiate = jax.grad(loss, has_aux=True)
        gradient, (z, nfe) = differentiate(theta, graph, z0, tol, backward_tol, cotangent)
        return z, nfe, gradient

    return lambda args, z0, tol, backward_tol: run(args, z0, tol, backward_tol, cotangent)


def make_run(function: Function, task: Task, solve: Solve) -> Run:
    """The task, compiled at its first call."""
    f, args = place(function)
    z0 = jax.device_put(function.z0)
    run = jit_task(function, task, solve, f)
    counters = Counters()
    counted = jit_task(function, task, solve, counters.watch(f))

    def count(tol: float, backward_tol: float) -> Counts:
        counters.evaluations = counters.products = 0
        jax.block_until_ready(counted(args, z0, tol, backward_tol))
        return Counts(counters.evaluations, counters.products)

    def read(out: Any) -> Outcome:
        z, nfe, gradient = jax.tree.map(np.asarray, out)
        return Outcome(z, int(nfe), gradient)

    return Run(
        lambda tol, backward_tol: jax.block_until_ready(run(args, z0, tol, backward_tol)),
        read,
        count,
    )


class JaxBare:
    """`f` alone, in loops that XLA compiles."""

    def __init__(self, function: Function):
        f, args = place(function)
        z0 = jax.device_put(function.z0)

        @jax.jit
        def evaluations(n, args, z0):
            return jax.lax.fori_loop(0, n, lambda _, z: f(z, args), z0)

        @jax.jit
        def products(n, args, z0):
            _, pull = jax.vjp(lambda z: f(z, args), z0)
            return jax.lax.fori_loop(0, n, lambda _, y: pull(y)[0], z0)

        start = jax.device_put(function.cotangent())
        self.evaluations = lambda n: jax.block_until_ready(evaluations(n, args, z0))
        self.products = lambda n: jax.block_until_ready(products(n, args, start))
