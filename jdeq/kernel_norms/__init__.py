"""Flax NNX modules around a cell that normalise its kernels, once per solve."""

from .base import KernelNorm as KernelNorm
from .registry import register_norm as register_norm
from .spectral_norm import PowerIteration as PowerIteration, SpectralNorm as SpectralNorm
from .weight_norm import WeightNorm as WeightNorm

register_norm("weight_norm", WeightNorm)
register_norm("spectral_norm", SpectralNorm)
