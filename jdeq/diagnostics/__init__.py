"""Why does my model not converge, is my gradient right: tools for looking, outside `jit`."""

from .diagnose import diagnose as diagnose
from .gradient_check import GradientCheck as GradientCheck, check_gradient as check_gradient
from .orbit import Behaviour as Behaviour
from .path_independence import (
    PathIndependence as PathIndependence,
    path_independence as path_independence,
)
from .plot import plot_convergence as plot_convergence
from .report import Diagnosis as Diagnosis
from .spectral_radius import spectral_radius as spectral_radius
