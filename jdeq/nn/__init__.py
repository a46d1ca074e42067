"""Flax NNX modules."""

from .deq import DEQ as DEQ
from .monotone import MonDEQ as MonDEQ, MonotoneLinear as MonotoneLinear
from .weight_norm import WeightNorm as WeightNorm
