"""`python -m benchmarks.solvers`: evaluations of `f` until the relative residual is below 1e-6.

Every solver starts at the same state. The count is that of the first evaluation `f(z)` with
`||f(z) - z|| < 1e-6 ||f(z)||`, whoever makes it; a Jacobian product counts as an evaluation where
the library says so. Prints Markdown.
"""

import argparse
import datetime
import functools
import importlib
import importlib.util
import os
import platform
import warnings
from collections.abc import Callable
from importlib import metadata

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
WITHOUT_HISTORY = ("fixed_point_iter", "cg", "bicgstab", "neumann")
UNMEASURED = ("simple_fixed_point_iter",)  # it never stops early
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
        if self.reached is None and np.linalg.norm(np.subtract(fz, z)) < TOL * size:
            self.reached = self.count

    def __str__(self) -> str:
        return "-" if self.reached is None else str(self.reached)


def by_jdeq(name: str, problem: Problem) -> str:
    most = MOST if name in WITHOUT_HISTORY else HISTORY
    solver = SOLVERS.resolve(name, {"max_iter": most, "tol": TOL, "stop_mode": "rel"})
    z, info = jax.jit(lambda z: jdeq.deq(problem.f, z, solver=solver))(problem.z0)
    fz, z = (np.asarray(ravel_pytree(tree)[0]) for tree in (problem.f(z), z))
    status = jdeq.Status(int(info.status[0]))
    if status != jdeq.Status.CONVERGED:
        return status.name.lower()
    assert np.linalg.norm(fz - z) < 1.01 * TOL * np.linalg.norm(fz), (name, problem.name)
    return str(int(info.nfe))


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


PEERS = {
    "scipy": (by_scipy, ("anderson", "broyden1", "newton_krylov")),
    "jaxopt": (by_jaxopt, ("FixedPointIteration", "AndersonAcceleration", "Broyden")),
    "optimistix": (by_optimistix, ("FixedPointIteration",)),
}


def methods(libraries: list[str]) -> dict[str, Method]:
    """Every solver at hand, by the heading of its column."""
    found: dict[str, Method] = {
        f"jdeq {name}": functools.partial(by_jdeq, name)
        for name in SOLVERS.entries
        if name not in UNMEASURED and "jdeq" in libraries
    }
    for library, (run, names) in PEERS.items():
        if library in libraries and importlib.util.find_spec(library):
            found |= {f"{library} {name}": functools.partial(run, name) for name in names}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    known = ["jdeq", *PEERS]
    parser.add_argument("--libraries", nargs="+", choices=known, default=known)
    parser.add_argument("--only", default="", help="problems whose name contains this")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    warnings.simplefilter("ignore")  # peers warn of every failure
    columns = methods(arguments.libraries)
    print(f"Evaluations of `f` to a relative residual of {TOL:g}; `-`: not reached in {MOST}")
    print(f"evaluations, or {HISTORY} iterations where a history grows with them. float64, one ")
    print("sample. gmres, bicgstab, cg and neumann are for affine maps only.\n")
    print("| problem |", " | ".join(columns), "|")
    print("| --- |" + " ---: |" * len(columns))
    for problem in problems():
        if arguments.only in problem.name:
            cells = [run(problem) for run in columns.values()]
            print(f"| {problem.name} |", " | ".join(cells), "|", flush=True)
    versions = [f"{n} {metadata.version(n)}" for n in known[1:] if importlib.util.find_spec(n)]
    print(
        f"\n{datetime.date.today()}, {platform.machine()} CPU, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, jax {jax.__version__}, {', '.join(versions)}."
    )


if __name__ == "__main__":
    main()
