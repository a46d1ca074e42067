"""What a task says of an equilibrium solve, besides its own figures."""

from jax import Array

import jdeq


def unrolled_steps(deq: jdeq.DEQConfig) -> int | None:
    """How many steps are made, each of them differentiated, where there is no solver; else None."""
    backward = deq.backward()
    if deq.f_max_iter or deq.eval_f_max_iter or not isinstance(backward, jdeq.PhantomGrad):
        return None
    return backward.steps


def solve_means(info: jdeq.SolverInfo) -> dict[str, Array]:
    """Of a training batch, each (): entries of what `Task.loss` returns.

    `converged` is the share of samples that the state returned solves, after phantom steps;
    `solver_converged` the share that the solver itself had solved.
    """
    return {
        "residual": info.rel_residual.mean(),
        "converged": info.converged.mean(),
        "solver_converged": (info.solver_status == jdeq.Status.CONVERGED).mean(),
        "nfe": info.nfe,
    }


def solve_rows(info: jdeq.SolverInfo, deq: jdeq.DEQConfig) -> dict[str, Array]:
    """Of each row of a batch: entries of what `Task.evaluate` returns.

    `trace` (B, max_iter) is of the residual that `deq` has a tolerance for.
    """
    return {
        "residual": info.rel_residual,
        "converged": info.converged,
        "trace": deq.trace(info),
        "nfe": info.nfe,
    }
