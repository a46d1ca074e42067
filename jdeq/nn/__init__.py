"""Flax NNX modules."""

from ..kernel_norms import (
    KernelNorm as KernelNorm,
    PowerIteration as PowerIteration,
    SpectralNorm as SpectralNorm,
    WeightNorm as WeightNorm,
)
from .deq import DEQ as DEQ
from .dropout import (
    VariationalDropout as VariationalDropout,
    VariationalDropout1d as VariationalDropout1d,
    VariationalDropout2d as VariationalDropout2d,
    VariationalDropout3d as VariationalDropout3d,
    VariationalDropToken1d as VariationalDropToken1d,
    VariationalDropToken2d as VariationalDropToken2d,
    VariationalDropToken3d as VariationalDropToken3d,
    redraw as redraw,
)
from .monotone import MonDEQ as MonDEQ, MonotoneLinear as MonotoneLinear
