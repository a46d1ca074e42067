"""`python -m benchmarks`: what a solve costs beyond its evaluations of `f`, beside peers.

Rows are verified (the residual is evaluated anew) before they are timed; times are medians of
interleaved calls. The limit of any solver is `NFE x time of f`: overhead 1.
"""

import platform
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np

from .peers import SOLVERS, Case, Run, libraries

CASES = (Case(64, 256), Case(64, 1024), Case(64, 2048))
REPEATS = 11


def milliseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def measure(run: Run) -> tuple[float, float]:
    """Medians of the solve and of as many bare evaluations, in ms."""
    solve, limit = lambda: run.solve(), lambda: run.evaluate(run.nfe)
    solve(), limit()
    pairs = [(milliseconds(solve), milliseconds(limit)) for _ in range(REPEATS)]
    total, bare = zip(*pairs, strict=True)
    return statistics.median(total), statistics.median(bare)


def main() -> None:
    print(f"{platform.processor() or platform.machine()}, jax {jax.__version__}, float32")
    print(f"{'case':>12} {'solver':>17} {'library':>9} {'NFE':>4} {'ms':>8} {'f ms':>8} overhead")
    for case in CASES:
        w, x = case.arrays()
        for solver in SOLVERS:
            for name, make in libraries().items():
                run = make(case, solver)
                z = run.solve()
                fz = np.tanh(z @ w + x)
                residual = np.linalg.norm(fz - z, axis=1) / np.linalg.norm(fz, axis=1)
                assert residual.max() < 2 * case.tol, (name, solver, residual.max())
                total, bare = measure(run)
                print(
                    f"{case.batch:>5} x {case.width:<4} {solver:>17} {name:>9} {run.nfe:>4}"
                    f" {total:>8.1f} {bare:>8.1f} {total / bare:>8.2f}"
                )


if __name__ == "__main__":
    main()
