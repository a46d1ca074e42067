"""Forward solvers, one file each."""

from .anderson import Anderson as Anderson
from .base import IterativeSolver as IterativeSolver, Solver as Solver
from .broyden import Broyden as Broyden
from .fixed_point import FixedPointIter as FixedPointIter
from .simple_fixed_point import SimpleFixedPointIter as SimpleFixedPointIter
