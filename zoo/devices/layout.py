"""Where the arrays of a run live on a mesh."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from zoo.data.split import Batch, parted
from zoo.devices.axes import RULES, mesh_axes
from zoo.devices.mesh import AXES, DATA, MODEL, Devices, axes_of
from zoo.errors import UserError
from zoo.nn.carry import Carry
from zoo.state import TrainState

BIG = 1024  # entries from which on an array is worth splitting
Spec = Sequence[tuple[str, ...]]  # for each axis of an array, what it is split over


class Layout:
    """Shardings of parameters, optimiser state, batches and what is carried between them.

    `jax.jit` inserts the communication that they imply; nothing else in the zoo knows of devices.

    Args:
        devices: the mesh, and whether parameters are split over its axis `data`.

    Raises:
        UserError: the mesh cannot be made.
    """

    def __init__(self, devices: Devices | None = None):
        devices = devices or Devices()
        self.mesh = devices.make_mesh()
        self.fsdp = devices.fsdp
        self._axes_of = {name: axes_of(self.mesh, name) for name in AXES}
        self.replicated = self._over([])
        self.rows = self._over([RULES["batch"]])

    @property
    def parts(self) -> int:
        """How many parts a batch is cut into."""
        return self._size(RULES["batch"])

    @property
    def waits(self) -> bool:
        """Whether a step must end before the next one starts.

        Steps that wait for each other's data in one process may use up its threads, and hang:
        simulated devices share the CPU's.
        """
        return self.mesh.size > 1 and self.mesh.devices.flat[0].platform == "cpu"

    def check_batch_size(self, batch_size: int) -> None:
        """Raises UserError unless a training batch can be cut into equal parts."""
        if batch_size % self.parts:
            sizes = "*".join(f"{name}={self._size((name,))}" for name in RULES["batch"])
            raise UserError(f"batch_size {batch_size} cannot be split evenly over {sizes}")

    def check_model(self, model: nnx.Module) -> None:
        """Raises UserError if the mesh has an axis `model`, over which nothing can be split."""
        parts = self._size((MODEL,))
        variables = [v for _, v in nnx.to_flat_state(nnx.state(model, nnx.Param))]
        if parts > 1 and not any((MODEL,) in self._split_layers(v) for v in variables):
            raise UserError(f"--mesh: no layer of this model can be split over {MODEL}={parts}")

    def params(self, params: nnx.State, *, whole: bool = False) -> nnx.State:
        """A sharding for each parameter; if `whole`, without the splits of FSDP."""
        flat = dict(nnx.to_flat_state(params))
        specs = {path: self._split_layers(variable) for path, variable in flat.items()}
        if self.fsdp and not whole:
            specs = {path: self._spread(spec, flat[path].shape) for path, spec in specs.items()}
        return nnx.from_flat_state(
            {path: flat[path].replace(self._over(spec)) for path, spec in specs.items()}
        )

    def rest(self, rest: nnx.State) -> nnx.State:
        """A sharding for each other variable.

        What is carried is split like the batch; frozen parameters are like those that are trained.
        """
        carried, frozen, others = nnx.split_state(rest, Carry, nnx.Param, ...)
        return nnx.merge_state(
            jax.tree.map(lambda _: self.rows, carried),
            self.params(frozen),
            jax.tree.map(lambda _: self.replicated, others),
        )

    def gathered(self, state: nnx.State) -> nnx.State:
        """In a jitted function: all parameters of a state put together that FSDP has split.

        So the parts are sent once, before a solve that uses them in every iteration.
        """
        params, others = nnx.split_state(state, nnx.Param, ...)
        whole = jax.lax.with_sharding_constraint(params, self.params(params, whole=True))
        return nnx.merge_state(whole, others)

    def state(self, state: TrainState, optimizer: optax.GradientTransformation) -> TrainState:
        """A sharding for each array of a run; moments and averages live with their parameter."""
        params = self.params(state.params)
        moments = optax.tree_utils.tree_map_params(
            optimizer,
            lambda _, sharding: sharding,
            state.opt_state,
            params,
            transform_non_params=lambda _: self.replicated,
        )
        ema = None if state.ema is None else params
        skips = jax.tree.map(lambda _: self.replicated, state.skips)
        return TrainState(params, self.rest(state.rest), moments, ema, skips)

    def my_rows(self, batch_size: int) -> slice:
        """The rows of a batch that the devices of this process need."""
        indices = self.rows.addressable_devices_indices_map((batch_size,)).values()
        bounds = [index[0].indices(batch_size) for index in indices if index is not None]
        return slice(min(b[0] for b in bounds), max(b[1] for b in bounds))

    def batch(
        self, mine: Batch, batch_size: int, shared: Collection[str] = ()
    ) -> Mapping[str, jax.Array]:
        """The whole batch as arrays over all devices, of the rows that this process has read.

        Entries without rows, named in `shared`, are the same in all processes.

        Raises:
            ValueError: another entry has not as many rows as this process is to read.
        """
        rows, whole = parted(mine, shared)
        mine_of = range(batch_size)[self.my_rows(batch_size)]
        for name, array in rows.items():
            if len(array) != len(mine_of):
                raise ValueError(
                    f"entry {name!r} of a batch has shape {np.shape(array)}, expected "
                    f"{len(mine_of)} rows; a split names those without rows in `shared`"
                )
        make = jax.make_array_from_process_local_data
        over = lambda a: make(self.rows, np.asarray(a), (batch_size, *np.shape(a)[1:]))
        everywhere = lambda a: make(self.replicated, np.asarray(a), np.shape(a))
        return jax.tree.map(over, rows) | jax.tree.map(everywhere, whole)

    def batch_shapes(
        self, batch: Mapping[str, Any], shared: Collection[str]
    ) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shape, dtype and sharding of each entry of a whole batch."""
        rows, whole = parted(batch, shared)
        on = lambda where: lambda a: jax.ShapeDtypeStruct(np.shape(a), a.dtype, sharding=where)
        return jax.tree.map(on(self.rows), rows) | jax.tree.map(on(self.replicated), whole)

    def filled(
        self, batch: Batch, weight: np.ndarray, shared: Collection[str]
    ) -> tuple[Batch, np.ndarray]:
        """An evaluation batch with copies of its first row, of weight 0, to make equal parts."""
        index = np.arange(-(-len(weight) // self.parts) * self.parts)
        added = index >= len(weight)
        if not added.any():
            return batch, weight
        index[added] = 0
        rows, whole = parted(batch, shared)
        batch = {name: np.asarray(a)[index] for name, a in rows.items()} | whole
        weight = weight[index]
        weight[added] = 0
        return batch, weight

    def _split_layers(self, parameter: nnx.Variable) -> Spec:
        """What the axes of a parameter are split over by their names, where they divide."""
        split = lambda of, n: self._size(of) > 1 and n % self._size(of) == 0
        pairs = zip(mesh_axes(parameter), parameter.shape, strict=True)
        return [of if split(of, n) else () for of, n in pairs]

    def _spread(self, spec: Spec, shape: tuple[int, ...]) -> Spec:
        """`spec`, with all factors of `data` that divide the axes of an array of this shape.

        Each axis takes what it can; the one that can take most is the first, and of several the
        longest. A small array stays as it is.
        """
        if math.prod(shape) < BIG:
            return spec
        spec = list(spec)
        left = list(self._axes_of[DATA])
        lengths = [n // self._size(of) for of, n in zip(spec, shape, strict=True)]
        takes = lambda i: (math.gcd(lengths[i], self._size((DATA,))), lengths[i])
        for i in sorted(range(len(shape)), key=takes, reverse=True):
            for name in tuple(left):
                if lengths[i] % self.mesh.shape[name] == 0:
                    lengths[i] //= self.mesh.shape[name]
                    spec[i] = (*spec[i], name)
                    left.remove(name)
        return spec

    def _over(self, spec: Spec) -> NamedSharding:
        """Arrays whose axes are split over these of the mesh, or of `AXES`."""
        named = [tuple(a for name in of for a in self._axes_of.get(name, (name,))) for of in spec]
        return NamedSharding(self.mesh, PartitionSpec(*(of or None for of in named)))

    def _size(self, of: tuple[str, ...]) -> int:
        return math.prod(self.mesh.shape[axis] for name in of for axis in self._axes_of[name])
