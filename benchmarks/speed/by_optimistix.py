"""The solves by optimistix: fixed point iteration, one stopping rule for the whole batch."""

import lineax
import numpy as np
import optimistix

from .function import Function, State
from .jax_runs import JaxBare, make_run
from .runs import MAX_ITER, RESTART, Run, Task


class Optimistix:
    name = "optimistix"
    bare = JaxBare

    def scale(self, z: State) -> float:
        """It compares the root mean square over the batch."""
        return float(np.sqrt(sum(np.vdot(a, a) for a in z) / sum(a.size for a in z)))

    def supports(self, task: Task) -> bool:
        return task.solver == "fixed point" and task.backward in (None, "IFT: GMRES")

    def prepare(self, function: Function, task: Task, tol: float) -> Run:
        def solve(f, z0, args, tol, backward_tol):
            # the step's root mean square against `tol`, a rule that does not depend on the size
            solver = optimistix.FixedPointIteration(0.0, tol, optimistix.rms_norm)
            linear = lineax.GMRES(
                rtol=0.0, atol=backward_tol, norm=optimistix.rms_norm, restart=RESTART
            )
            solution = optimistix.fixed_point(
                f,
                solver,
                z0,
                args,
                max_steps=MAX_ITER,
                throw=False,
                adjoint=optimistix.ImplicitAdjoint(linear),
            )
            return solution.value, solution.stats["num_steps"]

        return make_run(function, task, solve)
