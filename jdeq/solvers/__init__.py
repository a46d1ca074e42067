"""Forward solvers, one file each."""

from .anderson import Anderson as Anderson
from .base import IterativeSolver as IterativeSolver, Solver as Solver
from .bicgstab import BiCGStab as BiCGStab
from .broyden import Broyden as Broyden
from .cg import CG as CG
from .fallback import Fallback as Fallback
from .fixed_point import FixedPointIter as FixedPointIter
from .gmres import GMRES as GMRES
from .neumann import Neumann as Neumann
from .newton import Newton as Newton
from .simple_fixed_point import SimpleFixedPointIter as SimpleFixedPointIter
