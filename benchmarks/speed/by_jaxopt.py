"""The solves by jaxopt: one stopping rule, and one set of weights, for the whole batch."""

import functools

import jax
import jax.numpy as jnp
import jaxopt
import numpy as np

from .function import Function, State
from .jax_runs import JaxBare, make_run
from .runs import ANDERSON_M, BROYDEN_MEMORY, MAX_ITER, RESTART, Run, Task

SOLVERS = {
    "fixed point": (jaxopt.FixedPointIteration, {}),
    "Anderson": (jaxopt.AndersonAcceleration, {"history_size": ANDERSON_M}),
    "Broyden": (jaxopt.Broyden, {"stepsize": 1.0}),
    f"Broyden, memory {BROYDEN_MEMORY}": (
        jaxopt.Broyden,
        {"stepsize": 1.0, "history_size": BROYDEN_MEMORY},
    ),
}


class Jaxopt:
    name = "jaxopt"
    bare = JaxBare

    def scale(self, z: State) -> float:
        """It compares the norm of the whole batch."""
        return float(np.sqrt(sum(np.vdot(a, a) for a in z)))

    def supports(self, task: Task) -> bool:
        return task.solver in SOLVERS and task.backward in (None, "IFT: GMRES", "IFT: default")

    def prepare(self, function: Function, task: Task, tol: float) -> Run:
        make, options = SOLVERS[task.solver]

        def solve(f, z0, args, tol, backward_tol):
            # from its first inverse, the identity, Broyden's method wants z - f(z)
            root = lambda z, args: jax.tree.map(jnp.subtract, z, f(z, args))
            # the default is conjugate gradients on the normal equations; GMRES looks at the
            # residual at restarts only, and its "incremental" kind takes more products
            gmres = functools.partial(
                jaxopt.linear_solve.solve_gmres, tol=backward_tol, restart=RESTART
            )
            solver = make(
                root if make is jaxopt.Broyden else f,
                tol=tol,
                maxiter=MAX_ITER,
                implicit_diff_solve=None if task.backward == "IFT: default" else gmres,
                **options,
            )
            z, state = solver.run(z0, args)
            evaluations = state.num_fun_eval if make is jaxopt.Broyden else state.iter_num
            return z, evaluations

        return make_run(function, task, solve)
