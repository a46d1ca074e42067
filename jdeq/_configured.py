"""A configured layer as a function of `f` and `z0`."""

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from ._checks import whole_number
from ._deq import deq
from ._info import SolverInfo
from ._sliced import deq_in_slices, slice_backwards, slice_lengths
from ._space import PyTree, accumulator
from .config import DEQConfig
from .regularization import fixed_point_correction, jac_reg, sometimes


def get_deq(
    config: DEQConfig | argparse.Namespace | Mapping[str, Any] | None = None, **options: Any
) -> "ConfiguredDEQ":
    """The layer that a configuration describes, as a function: `layer(f, z0) -> z, info`.

    Args:
        config: a `DEQConfig`, a dict, the parsed arguments of `add_deq_args`, or None for the
            defaults; it is not changed.
        **options: options of `DEQConfig`, instead of those of `config`.

    Raises:
        TypeError, ValueError: an unknown option, or one out of range; a `norm_type`, since the
            layer gets a function, and no kernels to normalise.

    Example:
        >>> import jax.numpy as jnp, jdeq
        >>> layer = jdeq.get_deq({"f_solver": "anderson"}, f_options={"m": 3}, grad=2)
        >>> z, info = layer(lambda z: jnp.cos(z), jnp.zeros((2, 3)))
        >>> bool(info.converged.all())
        True
    """
    config = DEQConfig.make(config, **options)
    if config.norm_type != "none":
        raise ValueError(
            f"norm_type={config.norm_type!r}: get_deq solves for a function and sees no kernels. "
            "Write jdeq.nn.DEQ(cell, config), which normalises them; or cell = config.norm(cell) "
            "before the solve and get_deq(config, norm_type='none')"
        )
    return ConfiguredDEQ(config)


@dataclasses.dataclass(frozen=True)
class ConfiguredDEQ:
    """`jdeq.deq` with solver, gradient and states settled by a `DEQConfig`; made by `get_deq`.

    Hashable, so it can be closed over or be a static argument. It holds no parameters and
    normalises none: `config.norm` does that to a cell, and `jdeq.nn.DEQ` is this with a cell of its
    own.

    Coming from TorchDEQ: the output is the state, not a list. Write `z`, not `z_out[-1]`, which is
    the last sample; the list is `info.states`. A state of several variables is one argument of
    `f`, a tuple for instance.
    """

    config: DEQConfig

    def __call__(
        self,
        f: Callable[[PyTree], PyTree],
        z0: PyTree,
        *,
        train: bool = True,
        batch_dims: int = 1,
        max_iter: int | Array | None = None,
        on_failure: Literal["ignore", "warn"] = "ignore",
        **solver_options: Any,
    ) -> tuple[PyTree, SolverInfo]:
        """Solves `z = f(z)`.

        Args:
            f, z0, batch_dims, on_failure: as in `jdeq.deq`.
            train: if not, the iterations are those for evaluation, no states are sampled, and no
                phantom steps follow (unless they are all there is: no iterations).
            max_iter: most iterations, instead of the configured ones. An integer array stops at
                run time, at most at the configured number, without recompiling.
            **solver_options: options of the forward solver, instead of the configured ones.

        Returns:
            The state and its `jdeq.SolverInfo`.
        """
        config = self.config
        max_iter = whole_number("max_iter", max_iter)
        if isinstance(max_iter, int):
            solver_options["max_iter"], max_iter = max_iter, None
        solver = config.solver(train=train, **solver_options)
        n_states = config.n_states if train else 1
        indexing = config.indexing or None if train else None
        backward = config.backward(train=train, max_iter=solver.max_iter)
        settings = {"batch_dims": batch_dims, "max_iter": max_iter, "on_failure": on_failure}
        if config.core == "sliced" and (n_states > 1 or indexing):
            lengths = slice_lengths(solver.max_iter, n_states, indexing)
            solvers = [
                config.solver(train=True, **solver_options | {"max_iter": n}) for n in lengths
            ]
            backwards = slice_backwards(backward, len(lengths))
            return deq_in_slices(f, z0, solvers=solvers, backwards=backwards, **settings)
        return deq(
            f,
            z0,
            solver=solver,
            backward=backward,
            n_states=n_states,
            indexing=indexing,
            **settings,
        )

    def correction(self, loss_fn: Callable[[PyTree], Array], states: Sequence[PyTree]) -> Array:
        """`jdeq.fixed_point_correction` of the states with the configured `gamma`."""
        return fixed_point_correction(loss_fn, states, gamma=self.config.gamma)

    def jac_loss(
        self,
        f: Callable[[PyTree], PyTree],
        z: PyTree,
        key: Array,
        *,
        weight: float | Array | None = None,
        batch_dims: int = 1,
    ) -> Array:
        """The Jacobian penalty as configured: add it to the loss.

        `weight * jdeq.jac_reg(f, z, ...)` at one normal probe, with probability `jac_loss_freq`
        per call, else 0.

        Args:
            f, z, batch_dims: as in `jdeq.jac_reg`, which says what to detach.
            key: for the draw and for the probe.
            weight: instead of `jac_loss_weight`: a schedule's value, for one of
                `jdeq.incremental_weight`.

        Returns:
            A scalar, in float32 at least; without an evaluation of `f` if the weight is 0.
        """
        weight = self.config.jac_loss_weight if weight is None else weight
        if isinstance(weight, float | int) and weight == 0:
            return jnp.zeros((), accumulator(*jax.tree.leaves(z)))
        draw, probe = jax.random.split(key)
        penalty = lambda: jac_reg(f, z, probe, batch_dims=batch_dims)
        loss = sometimes(penalty, draw, self.config.jac_loss_freq)
        return jnp.asarray(weight, loss.dtype) * loss
