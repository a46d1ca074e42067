"""Forward solvers, one file each."""

from .anderson import Anderson as Anderson
from .base import IterativeSolver as IterativeSolver, Solver as Solver
from .broyden import Broyden as Broyden
from .fallback import Fallback as Fallback
from .fixed_point import FixedPointIter as FixedPointIter
from .simple_fixed_point import SimpleFixedPointIter as SimpleFixedPointIter
