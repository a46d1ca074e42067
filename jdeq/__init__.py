"""Deep equilibrium models in JAX."""

from . import extend as extend, nn as nn, norm as norm
from ._configured import ConfiguredDEQ as ConfiguredDEQ, get_deq as get_deq
from ._deq import deq as deq
from ._info import SolverInfo as SolverInfo, Status as Status
from ._programs import clear_cache as clear_cache
from ._splitting import (
    forward_backward as forward_backward,
    peaceman_rachford as peaceman_rachford,
)
from ._stream import solve_stream as solve_stream
from ._version import __version__ as __version__
from .backward import (
    IFT as IFT,
    JFB as JFB,
    SHINE as SHINE,
    Backward as Backward,
    PhantomGrad as PhantomGrad,
    Unroll as Unroll,
    register_backward as register_backward,
)
from .command_line import add_deq_args as add_deq_args
from .config import DEQConfig as DEQConfig
from .diagnostics import (
    PathIndependence as PathIndependence,
    check_gradient as check_gradient,
    diagnose as diagnose,
    path_independence as path_independence,
    plot_convergence as plot_convergence,
    spectral_radius as spectral_radius,
)
from .kernel_norms import register_norm as register_norm
from .regularization import (
    fixed_point_correction as fixed_point_correction,
    incremental_weight as incremental_weight,
    jac_reg as jac_reg,
    jacobian_correction as jacobian_correction,
    mixed_init as mixed_init,
    random_max_iter as random_max_iter,
    sometimes as sometimes,
)
from .solvers import (
    CG as CG,
    GMRES as GMRES,
    Anderson as Anderson,
    BiCGStab as BiCGStab,
    Broyden as Broyden,
    Fallback as Fallback,
    FixedPointIter as FixedPointIter,
    IterativeSolver as IterativeSolver,
    Neumann as Neumann,
    Newton as Newton,
    SimpleFixedPointIter as SimpleFixedPointIter,
    Solver as Solver,
    register_solver as register_solver,
)
