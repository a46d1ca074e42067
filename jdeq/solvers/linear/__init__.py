"""Solvers for affine `f`: the linear systems of implicit gradients."""

from .bicgstab import BiCGStab as BiCGStab
from .cg import CG as CG
from .gmres import GMRES as GMRES
from .neumann import Neumann as Neumann
