"""What the axes of a model's parameters mean, and which of them are split over devices.

Names are attached from outside, by the path of a parameter, instead of as Flax's partitioning
metadata: metadata would bind each model, each import and each parity check to a mesh in context,
and the scales and singular vectors of the norms have no initialiser that could carry it. Their
paths hold that of the kernel they belong to, so one pattern names a layer's kernel, its bias, its
scale and its optimiser state.
"""

import re
from collections.abc import Mapping

from zoo.devices.mesh import DATA, MODEL, REPLICA

Axes = Mapping[str, tuple[str, ...]]  # pattern of a path -> names of its arrays' last axes

RULES: Mapping[str, tuple[str, ...]] = {
    "batch": (REPLICA, DATA),  # samples, or streams
    "vocab": (MODEL,),  # words
    "heads": (MODEL,),  # features of attention heads
    "hidden": (MODEL,),  # inner features of a residual block
    "width": (),  # features of one attention head
    "embed": (),  # features of the state: whole, so that f's output is summed only once
}


def mesh_axes(axes: Axes, path: str, ndim: int) -> tuple[tuple[str, ...], ...]:
    """The mesh axes of each of the `ndim` axes of the array at a dotted path, as `RULES` say.

    Names are aligned at the last axis: a bias (features,) has the last name of its kernel.
    """
    for pattern, names in axes.items():
        if re.search(pattern, path):
            found = tuple(RULES[name] for name in names)[-ndim:] if ndim else ()
            return ((),) * (ndim - len(found)) + found
    return ((),) * ndim
