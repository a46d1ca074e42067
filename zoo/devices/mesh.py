"""Which devices a run uses, as a mesh with named axes."""

import dataclasses
import math
import string

import jax

from jdeq.options import Options, option
from zoo.errors import UserError

# axes of every mesh: the last one is for parts of a layer, the others for samples; FSDP splits over
# `data` only, so that `replica` can be the nodes and `data` the devices in a node
REPLICA, DATA, MODEL = AXES = ("replica", "data", "model")


@dataclasses.dataclass(frozen=True)
class Devices(Options, what="device option", commands=("train",)):
    """How a run is spread over devices; it computes the same whatever this is.

    Not part of a run's configuration: a checkpoint goes on with any other devices.

    Args:
        mesh: sizes of the mesh's axes, as in `data=4,model=2`; empty: one device, or with several
            processes all devices on `data`.
        fsdp: of parameters and optimiser state, each device of `data` holds a part only.

    Raises:
        ValueError: `mesh` cannot be read; the text says what can be.
    """

    mesh: str = option(
        "",
        "devices by axis: data=8; data=4,model=2 (layers too); replica=2,data=4 (--fsdp in fours)",
        also=("eval",),
    )
    fsdp: bool = option(False, "split parameters and optimiser state over the axis data")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.sizes()

    def sizes(self) -> dict[str, int]:
        """Sizes of the axes that `mesh` names."""
        sizes = {}
        for part in self.mesh.split(",") if self.mesh else ():
            name, _, size = part.partition("=")
            if name not in AXES:
                raise ValueError(
                    f"mesh {self.mesh!r}: unknown axis {name!r}, there are {', '.join(AXES)}"
                )
            if not size.isdecimal() or int(size) < 1:
                raise ValueError(f"mesh {self.mesh!r}: expected {name}=N with a positive N")
            if name in sizes:
                raise ValueError(f"mesh {self.mesh!r}: names {name} twice")
            sizes[name] = int(size)
        return sizes

    def make_mesh(self) -> jax.sharding.Mesh:
        """The mesh, with all axes.

        For FSDP the axis `data` is several ones, its prime factors: an array of 700 x 700 cannot
        be cut into 8 along one of its axes, but into 4 along one and 2 along the other.

        Raises:
            UserError: there are fewer devices, or a process would have none of its own.
        """
        there, processes = jax.device_count(), jax.process_count()
        sizes = self.sizes() or {DATA: there if processes > 1 else 1}
        shape = tuple(sizes.get(name, 1) for name in AXES)
        wanted = math.prod(shape)
        if wanted > there:
            raise UserError(f"--mesh {self.mesh} needs {wanted} devices, there are {there}")
        if processes > 1 and wanted < there:
            raise UserError(
                f"--mesh {self.mesh} has {wanted} devices: {processes} processes take part with "
                f"all of theirs, {there}"
            )
        auto = jax.sharding.AxisType.Auto
        devices = jax.devices()[:wanted]
        mesh = jax.make_mesh(shape, AXES, axis_types=(auto,) * len(AXES), devices=devices)
        if not self.fsdp:
            return mesh
        replica, data, model = shape
        factors = prime_factors(data)
        names = (REPLICA, *(f"{DATA}{i}" for i in range(len(factors))), MODEL)
        cut = mesh.devices.reshape(replica, *factors, model)
        return jax.sharding.Mesh(cut, names, axis_types=(auto,) * len(names))


def axes_of(mesh: jax.sharding.Mesh, name: str) -> tuple[str, ...]:
    """The axes of a mesh that make up the one of this name."""
    return tuple(axis for axis in mesh.axis_names if axis.rstrip(string.digits) == name)


def prime_factors(n: int) -> list[int]:
    """In ascending order, as often as they divide `n`; none of 1."""
    factors = []
    while n > 1:
        factors.append(next(p for p in range(2, n + 1) if n % p == 0))
        n //= factors[-1]
    return factors
