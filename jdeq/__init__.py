"""Deep equilibrium models in JAX."""

from . import nn as nn
from ._deq import deq as deq
from ._info import SolverInfo as SolverInfo, Status as Status
from .config import DEQConfig as DEQConfig, add_deq_args as add_deq_args
from .gradients import (
    IFT as IFT,
    JFB as JFB,
    SHINE as SHINE,
    Backward as Backward,
    PhantomGrad as PhantomGrad,
    Unroll as Unroll,
)
from .gradients.registry import register_backward as register_backward
from .solvers import (
    Anderson as Anderson,
    Broyden as Broyden,
    Fallback as Fallback,
    FixedPointIter as FixedPointIter,
    IterativeSolver as IterativeSolver,
    SimpleFixedPointIter as SimpleFixedPointIter,
    Solver as Solver,
)
from .solvers.registry import register_solver as register_solver
