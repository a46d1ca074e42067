"""What the axes of a model's parameters mean, and which of them are split over devices.

A model names them as Flax's partitioning metadata, which norms of kernels hand on to their scales.
"""

from collections.abc import Mapping
from typing import Any

from flax import nnx

from zoo.devices.mesh import DATA, MODEL, REPLICA

RULES: Mapping[str | None, tuple[str, ...]] = {
    "batch": (REPLICA, DATA),  # samples, or streams
    "vocab": (MODEL,),  # words
    "heads": (MODEL,),  # features of attention heads
    "hidden": (MODEL,),  # inner features of a residual block
    "width": (),  # features of one attention head
    "embed": (),  # features of the state: whole, so that f's output is summed only once
    None: (),
}


def named(*names: str | None) -> dict[str, Any]:
    """Metadata of a parameter: a name for each of its axes; `RULES` has them all.

    It is not for a mesh that is there when the model is made: a layout looks it up later.
    """
    return {"out_sharding": names, "eager_sharding": False}


def named_layer(*names: str | None) -> dict[str, Any]:
    """Options of a layer of Flax: the names of its kernel's axes, the last one of its bias too."""
    return {"kernel_metadata": named(*names), "bias_metadata": named(names[-1])}


def mesh_axes(parameter: nnx.Variable) -> list[tuple[str, ...]]:
    """The mesh axes of each axis of a parameter, as `RULES` say; nothing if it has no names."""
    names = parameter.get_metadata("out_sharding", (None,) * len(parameter.shape))
    return [RULES[name] for name in names]
