"""How contractive a model's equilibrium function is where it is solved."""

from collections.abc import Collection, Mapping
from typing import Any

import jax
from flax import nnx

import jdeq
from zoo.data.split import Batch, parted
from zoo.run import RunConfig
from zoo.task import SolvingTask

SAMPLES = 64  # of the first evaluation batch
ITERATIONS = 60  # of the power method


class SpectralRadius:
    """Measures the Jacobian's spectral radius at the states that are found, mean over samples.

    Above 1, plain iteration runs away from the state; other solvers may still find it.

    """

    def __init__(self, task: SolvingTask, config: RunConfig):
        build = lambda: task.build(config.model, config.deq, rngs=nnx.Rngs(0))
        model = nnx.eval_shape(build)
        model.eval()
        graphdef = nnx.graphdef(model)

        def radius(params: nnx.State, rest: nnx.State, batch: Mapping[str, jax.Array]) -> jax.Array:
            model: Any = nnx.merge(graphdef, params, rest, copy=True)
            f, z = task.equilibrium(model, batch)
            return jdeq.spectral_radius(f, z, jax.random.key(0), n_iters=ITERATIONS).mean()

        self._radius = jax.jit(radius)

    def __call__(
        self, params: nnx.State, rest: nnx.State, batch: Batch, shared: Collection[str]
    ) -> float:
        """Of one evaluation batch, or of as many samples in it as are enough."""
        rows, whole = parted(batch, shared)
        few = {name: a[:SAMPLES] for name, a in rows.items()}
        return float(self._radius(params, rest, few | whole))
