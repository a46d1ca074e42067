"""What a solver, a backward or a norm of one's own is made of.

A solver is a `Solver`, mostly an `IterativeSolver`; a backward a `Backward`, or an `Implicit` one,
which only says how the adjoint is found; a norm a `KernelNorm`. *Extending jdeq* in the
documentation writes one of each. `register_solver`, `register_backward` and `register_norm` give
them names.
"""

from ._checks import check_int as check_int, check_scalar as check_scalar
from ._loop import Residual as Residual, Solution as Solution, measure as measure
from ._problem import Problem as Problem
from ._space import Space as Space
from .backward import Backward as Backward, register_backward as register_backward
from .backward.implicit import Implicit as Implicit, solve_implicitly as solve_implicitly
from .backward.linear_system import solve_linear as solve_linear
from .kernel_norms import KernelNorm as KernelNorm, register_norm as register_norm
from .solvers import (
    IterativeSolver as IterativeSolver,
    Solver as Solver,
    register_solver as register_solver,
)
from .solvers.base import InverseEstimator as InverseEstimator
from .solvers.linear.affine import AffineSolver as AffineSolver
