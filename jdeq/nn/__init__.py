"""Flax NNX modules."""

from .deq import DEQ as DEQ
from .kernel_norm import KernelNorm as KernelNorm
from .monotone import MonDEQ as MonDEQ, MonotoneLinear as MonotoneLinear
from .spectral_norm import PowerIteration as PowerIteration, SpectralNorm as SpectralNorm
from .weight_norm import WeightNorm as WeightNorm
