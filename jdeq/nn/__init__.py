"""Flax NNX modules."""

from .deq import DEQ as DEQ
from .weight_norm import WeightNorm as WeightNorm
