"""What a solve says of itself."""

import enum
from typing import Any, NamedTuple

import numpy as np
from jax import Array, core


class Status(enum.IntEnum):
    """Why a sample stopped; held in arrays as int32, so it survives `jit` and `vmap`.

    `advice` says in a sentence what to try.
    """

    CONVERGED = 0
    MAX_ITER = 1
    STALLED = 2
    NONFINITE = 3
    DIVERGED = 4

    @property
    def advice(self) -> str:
        return _ADVICE[self]


_ADVICE = {
    Status.CONVERGED: "the residual is below tol, and a solution is near",
    Status.MAX_ITER: "ran out of iterations: raise max_iter, damp with tau, or take another solver",
    Status.STALLED: "no more progress: tol may be below what the dtype resolves, or f may not "
    "contract; damp with tau, normalise the weights, or take another solver",
    Status.NONFINITE: "f made NaN or infinity: the last good state was kept; look at the inputs, "
    "damp with tau, or normalise the weights",
    Status.DIVERGED: "the state ran away, and only beside it the residual is small: f may have no "
    "fixed point; an earlier state was kept; normalise the weights, or take another solver",
}


_OF_TORCHDEQ = {"abs_lowest": "abs_residual", "rel_lowest": "rel_residual", "nstep": "steps"}


class SolverInfo(NamedTuple):
    """What `deq` says of a solve; batch shape `(B,)`, or `()` with `batch_dims=0`.

    Everything is measured at the state that was returned.

    Attributes:
        abs_residual: `(B,)` float32 or float64, `||f(z) - z||` over all leaves.
        rel_residual: `(B,)`, the same divided by `||f(z)||`.
        steps: `(B,)` int32, the iteration at which the returned state was found.
        nfe: `()` int32, evaluations of `f` that the forward pass made, for the whole batch: by the
            solver (also those behind a sample's last one, where the batch goes on), in phantom
            steps, and to measure what they lead to. Newton's linearisations and Jacobian-vector
            products count as evaluations.
        status: `(B,)` int32, a `Status`.
        solver_status: `(B,)` int32, the one with which the solver itself ended. Another one than
            `status` only where phantom steps followed upon a solve.
        abs_trace, rel_trace: `(B, max_iter)`, the residual after each iteration; once the sample
            had stopped, that of the state that it returned, to the end. So nothing but an `f` that
            makes NaN puts NaN there, and `jax_debug_nans` may be on.
        states: the sampled states, oldest first, ending with the returned one; `()` unless
            `n_states` or `indexing` asked for them.
    """

    abs_residual: Array
    rel_residual: Array
    steps: Array
    nfe: Array
    status: Array
    solver_status: Array
    abs_trace: Array
    rel_trace: Array
    states: tuple[Any, ...] = ()

    @property
    def converged(self) -> Array:
        """`(B,)` bool."""
        return self.status == Status.CONVERGED

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, str):
            name = _OF_TORCHDEQ.get(index, index)
            known = name in self._fields or name == "converged"
            write = f"write info.{name}" if known else f"it has {', '.join(self._fields)}"
            raise TypeError(f"info[{index!r}]: what a solve says is an attribute; {write}")
        return tuple.__getitem__(self, index)

    def __repr__(self) -> str:
        if isinstance(self.status, core.Tracer):
            return f"SolverInfo(<traced>, batch shape {self.status.shape})"
        status, steps = np.atleast_1d(self.status), np.atleast_1d(self.steps)
        if status.size == 0:
            return "SolverInfo(<empty batch>)"
        before = np.atleast_1d(self.solver_status)
        own = "" if np.array_equal(status, before) else f" ({_counted(before)} by the solver alone)"
        return (
            f"SolverInfo({_counted(status)}{own}; "
            f"steps {steps.min()}..{steps.max()}, nfe {np.max(self.nfe)}, "
            f"worst residual {np.max(self.abs_residual):.1e} absolute, "
            f"{np.max(self.rel_residual):.1e} relative)"
        )


def _counted(status: np.ndarray) -> str:
    return ", ".join(f"{np.sum(status == s)} {s.name}" for s in Status if np.any(status == s))
