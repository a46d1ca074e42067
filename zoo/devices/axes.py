"""What the axes of a model's parameters mean, and which of them are split over devices.

A model names them as Flax's partitioning metadata, which norms of kernels hand on to their scales.
"""

from collections.abc import Mapping
from typing import Any

from flax import nnx

from zoo.devices.mesh import DATA, MODEL, REPLICA
from zoo.errors import UserError

RULES: Mapping[str, tuple[str, ...]] = {
    "batch": (REPLICA, DATA),  # samples, or streams
    "vocab": (MODEL,),  # words
    "heads": (MODEL,),  # features of attention heads
    "hidden": (MODEL,),  # inner features of a residual block
    "width": (),  # features of one attention head
    "embed": (),  # features of the state: whole, so that f's output is summed only once
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
    """The mesh axes of each axis of a parameter, as `RULES` say; none for those without a name.

    Raises:
        UserError: `RULES` do not have a name.
    """
    names = parameter.get_metadata("out_sharding", None) or ()
    for name in names:
        if name is not None and name not in RULES:
            raise UserError(f"unknown name {name!r} of a parameter's axis, there are {list(RULES)}")
    found = [RULES[name] if name else () for name in names]
    return found + [()] * (len(parameter.shape) - len(found))
