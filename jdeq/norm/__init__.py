"""Kernel normalisation of plain pytrees; `jdeq.nn` has the Flax NNX modules made of it."""

from .spectral import (
    PowerVectors as PowerVectors,
    spectral_norm as spectral_norm,
    spectral_scales as spectral_scales,
    spectral_state as spectral_state,
)
from .weight import weight_norm as weight_norm, weight_scales as weight_scales
