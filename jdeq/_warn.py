"""A line on the console for solves that failed."""

import functools
import sys

import jax
import numpy as np

from ._info import SolverInfo, Status


def warn_of_failures(which: str, info: SolverInfo) -> None:
    """Prints a line if samples of the solve did not converge; works under `jit`.

    Args:
        which: "forward" or "backward", for the message.
        info: of the solve.
    """
    show = functools.partial(_print_failures, which)
    jax.debug.callback(show, info.status, info.abs_residual, info.rel_residual)


def _print_failures(which, status, abs_residual, rel_residual) -> None:
    status = np.atleast_1d(np.asarray(status))
    failed = status != Status.CONVERGED
    if not failed.any():
        return
    commonest = Status(np.bincount(status[failed]).argmax())
    worst = np.max(np.atleast_1d(np.asarray(rel_residual))[failed])
    worst_abs = np.max(np.atleast_1d(np.asarray(abs_residual))[failed])
    print(
        f"jdeq: {which} solve: {failed.sum()} of {status.size} samples did not converge "
        f"(worst residual {worst_abs:.1e} absolute, {worst:.1e} relative); "
        f"{commonest.name}: {commonest.advice}",
        file=sys.stderr,
    )
