"""Solvers: forward ones, one file each; `linear` ones for affine `f`; `parts` of both."""

from .anderson import Anderson as Anderson
from .auto import auto as auto, auto_affine as auto_affine
from .base import IterativeSolver as IterativeSolver, Solver as Solver
from .broyden import Broyden as Broyden
from .fallback import Fallback as Fallback
from .fixed_point import FixedPointIter as FixedPointIter
from .linear import CG as CG, GMRES as GMRES, BiCGStab as BiCGStab, Neumann as Neumann
from .newton import Newton as Newton
from .registry import AFFINE as AFFINE, register_solver as register_solver
from .simple_fixed_point import SimpleFixedPointIter as SimpleFixedPointIter

register_solver("fixed_point_iter", FixedPointIter)
register_solver("simple_fixed_point_iter", SimpleFixedPointIter)
register_solver("anderson", Anderson)
register_solver("broyden", Broyden)
register_solver("newton", Newton)
register_solver("fallback", Fallback)
register_solver("auto", auto)
AFFINE.register("auto", auto_affine)
register_solver("gmres", GMRES)
register_solver("bicgstab", BiCGStab)
register_solver("cg", CG)
register_solver("neumann", Neumann)
