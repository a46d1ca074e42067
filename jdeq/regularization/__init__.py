"""Training that keeps equilibria easy to reach: penalties, corrections, randomised solves."""

from .correction import (
    fixed_point_correction as fixed_point_correction,
    jacobian_correction as jacobian_correction,
)
from .jacobian import jac_reg as jac_reg
from .mixed_init import mixed_init as mixed_init
from .occasional import incremental_weight as incremental_weight, sometimes as sometimes
from .random_iterations import random_max_iter as random_max_iter
