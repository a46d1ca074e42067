"""`python -m benchmarks.solvers`: evaluations of `f` on problems of many kinds, beside peers.

Prints Markdown, a table for each family of methods.
"""

import argparse
import ast
import datetime
import functools
import importlib
import importlib.util
import os
import platform
import warnings
from collections.abc import Callable
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import jdeq
from jdeq.solvers.registry import SOLVERS

from .problems import Problem, problems

TOL = 1e-6
MOST = 2_000  # evaluations
HISTORY = 200  # iterations of solvers whose memory grows with them
LONG = ("fixed_point_iter", "anderson", "cg", "bicgstab", "neumann")  # whose history does not grow
Method = Callable[[Problem], str]


class Finished(Exception):
    """Enough evaluations: the goal is reached, or the budget spent."""


class Counter:
    """Counts evaluations on the host, and notes the one that reaches the tolerance."""

    def __init__(self) -> None:
        self.count, self.reached = 0, None

    def see(self, z, fz) -> None:
        self.count += 1
        size = np.linalg.norm(fz)
        near = np.isfinite(size) and np.linalg.norm(np.subtract(fz, z)) < TOL * size
        if self.reached is None and near:
            self.reached = self.count

    def __str__(self) -> str:
        return "-" if self.reached is None else str(self.reached)


def by_jdeq(settings: str, problem: Problem) -> str:
    name, *options = settings.split(", ")
    most = MOST if name in LONG else HISTORY
    common = {"max_iter": most, "tol": TOL, "stop_mode": "rel"}
    solver = SOLVERS.resolve(name, common | dict(map(parsed, options)))
    z, info = jax.jit(lambda z: jdeq.deq(problem.f, z, solver=solver))(problem.z0)
    fz, z = (np.asarray(ravel_pytree(tree)[0]) for tree in (problem.f(z), z))
    status = jdeq.Status(int(info.status[0]))
    if status != jdeq.Status.CONVERGED:
        return status.name.lower()
    assert np.linalg.norm(fz - z) < 1.01 * TOL * np.linalg.norm(fz), (name, problem.name)
    return str(int(info.nfe))


def parsed(option: str) -> tuple[str, Any]:
    """`m=5` as a name and a value; a bare name is a flag."""
    name, _, value = option.partition("=")
    try:
        return name, ast.literal_eval(value or "True")
    except ValueError:
        return name, value


def by_scipy(name: str, problem: Problem) -> str:
    from scipy import optimize

    start, unravel = ravel_pytree(problem.z0)
    flat_f = jax.jit(lambda v: ravel_pytree(problem.f(unravel(v)))[0])
    counter = Counter()

    def residual(v):
        fv = np.asarray(flat_f(jnp.asarray(v)))
        counter.see(v, fv)
        if counter.reached or counter.count >= MOST:
            raise Finished
        return fv - v

    try:
        solve = getattr(optimize, name)
        solve(residual, np.asarray(start), f_tol=1e-14, maxiter=MOST)
    except (Finished, optimize.NoConvergence, ValueError, FloatingPointError):
        pass  # how it ended is in the counter
    except (OverflowError, np.linalg.LinAlgError, ZeroDivisionError):
        pass
    return str(counter)


def watched(problem: Problem, counter: Counter):
    """`f` on a flat vector, telling the counter of each evaluation, also in compiled loops."""
    start, unravel = ravel_pytree(problem.z0)

    def f(v, *_):
        fv = ravel_pytree(problem.f(unravel(v)))[0]
        jax.debug.callback(counter.see, v, fv, ordered=True)
        return fv

    return f, start


def by_jaxopt(name: str, problem: Problem) -> str:
    jaxopt = importlib.import_module("jaxopt")
    counter = Counter()
    f, start = watched(problem, counter)
    options = {"tol": 1e-12, "maxiter": MOST if name == "FixedPointIteration" else HISTORY}
    solver = (
        jaxopt.Broyden(lambda v: f(v) - v, **options)
        if name == "Broyden"
        else getattr(jaxopt, name)(f, **options)
    )
    jax.block_until_ready(jax.jit(lambda v: solver.run(v).params)(start))
    jax.effects_barrier()
    return str(counter)


def by_optimistix(name: str, problem: Problem) -> str:
    optimistix = importlib.import_module("optimistix")
    counter = Counter()
    f, start = watched(problem, counter)
    solver = getattr(optimistix, name)(rtol=1e-10, atol=1e-12)
    solve = lambda v: optimistix.fixed_point(f, solver, v, max_steps=MOST, throw=False).value
    jax.block_until_ready(jax.jit(solve)(start))
    jax.effects_barrier()
    return str(counter)


JDEQ = {
    "fixed point": ("fixed_point_iter",),
    "Anderson": (
        "anderson",
        "anderson, tau=0.7",
        "anderson, line_search",
        "anderson, kind=1",
        "anderson, m=20",
    ),
    "Broyden": ("broyden", "broyden, update=bad", "broyden, line_search"),
    "Newton-Krylov": ("newton", "newton, forcing=1e-6"),
    "affine maps only": ("gmres", "bicgstab", "cg", "neumann"),
    "fallback": ("fallback",),
}
PEERS = {
    "scipy": {"Anderson": "anderson", "Broyden": "broyden1", "Newton-Krylov": "newton_krylov"},
    "jaxopt": {
        "fixed point": "FixedPointIteration",
        "Anderson": "AndersonAcceleration",
        "Broyden": "Broyden",
    },
    "optimistix": {"fixed point": "FixedPointIteration"},
}
RUN = {"scipy": by_scipy, "jaxopt": by_jaxopt, "optimistix": by_optimistix}


def methods(family: str) -> dict[str, Method]:
    """The solvers of a family, by the heading of their column: ours, then those of peers."""
    found: dict[str, Method] = {
        f"jdeq {name}": functools.partial(by_jdeq, name) for name in JDEQ[family]
    }
    for library, names in PEERS.items():
        if family in names and importlib.util.find_spec(library):
            name = names[family]
            found[f"{library} {name}"] = functools.partial(RUN[library], name)
    return found


def print_table(family: str, only: str) -> None:
    """Problems down, solvers across, in Markdown, a row as soon as it is done."""
    columns = methods(family)
    print(f"\n## {family}\n\n| problem |", " | ".join(columns), "|")
    print("| --- |" + " ---: |" * len(columns))
    for problem in problems():
        skip = family == "affine maps only" and not problem.name.startswith("affine")
        if only in problem.name and not skip:
            cells = [run(problem) for run in columns.values()]
            print(f"| {problem.name} |", " | ".join(cells), "|", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="+", choices=list(JDEQ), default=list(JDEQ))
    parser.add_argument("--only", default="", help="problems whose name contains this")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    warnings.simplefilter("ignore")  # peers warn of every failure
    print("# Evaluations of `f` until `|f(z) - z| < 1e-6 |f(z)|`\n")
    print("float64, one sample, each solver from the same start with its default settings. A")
    print("Jacobian product counts as an evaluation. Ours is the count that the solver reports at")
    print("its end; a peer's, whose criteria differ, that of the first evaluation to get there.")
    print(
        f"`-`: not reached in {MOST} evaluations, or {HISTORY} iterations of solvers whose history"
    )
    print("grows with them; ours then say why.")
    for family in arguments.families:
        print_table(family, arguments.only)
    versions = [f"{n} {metadata.version(n)}" for n in PEERS if importlib.util.find_spec(n)]
    print(
        f"\n{datetime.date.today()}, {platform.machine()} CPU, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, jax {jax.__version__}, {', '.join(versions)}."
    )


if __name__ == "__main__":
    main()
