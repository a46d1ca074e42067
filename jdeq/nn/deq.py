"""The DEQ layer."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from .._deq import deq
from .._info import SolverInfo
from .._space import PyTree
from ..config import DEQConfig
from .weight_norm import WeightNorm


class DEQ(nnx.Module):
    """`z* = cell(z*, x)`: a layer whose output is the fixed point of a small network.

    The cell may read its variables while it is solved for, not write them. Call it under
    `nnx.jit` or `jax.jit`.

    Args:
        cell: `cell(z, x) -> z`, an NNX module or a function; `x` may be any pytree.
        config: solver, gradient, states and normalisation. With `norm_type="weight_norm"` the
            cell is wrapped in `jdeq.nn.WeightNorm`, normalised once per call.
        init: makes the start state, `init(x)`, or `init(x, key)` when a key is given. By default
            the cell's own `initial_state`, which is called likewise, else zeros like `x`.
        batch_dims: leading axes of the state that count samples.

    Attributes:
        deterministic: `layer.eval()` sets it, `layer.train()` clears it. In evaluation the layer
            makes `eval_f_max_iter` iterations and samples no intermediate states.

    Raises:
        TypeError: weight normalisation of a cell that is not a module; `x` is not an array and
            nothing else says how the state starts.

    Example:
        >>> from flax import nnx
        >>> import jax, jax.numpy as jnp, jdeq
        >>> class Cell(nnx.Module):
        ...     def __init__(self, n, *, rngs):
        ...         self.linear = nnx.Linear(n, n, rngs=rngs)
        ...     def __call__(self, z, x):
        ...         return jnp.tanh(0.5 * self.linear(z) + x)
        >>> layer = jdeq.nn.DEQ(Cell(8, rngs=nnx.Rngs(0)), jdeq.DEQConfig(f_solver="anderson"))
        >>> z, info = nnx.jit(layer)(jnp.ones((2, 8)))
        >>> z.shape, bool(info.converged.all())
        ((2, 8), True)
    """

    def __init__(
        self,
        cell: Callable[..., PyTree],
        config: DEQConfig | None = None,
        *,
        init: Callable[..., PyTree] | None = None,
        batch_dims: int = 1,
    ):
        config = config or DEQConfig()
        if config.norm_type == "weight_norm" and not isinstance(cell, WeightNorm):
            if not isinstance(cell, nnx.Module):
                raise TypeError(f"weight_norm needs a cell that is an nnx.Module, got {cell!r}")
            cell = WeightNorm(
                cell,
                learn_scale=not config.norm_no_scale,
                target_norm=config.norm_target_norm,
                clip=config.norm_clip_value if config.norm_clip else None,
            )
        self.cell = cell
        self.config = config
        self.init = init
        self.batch_dims = batch_dims
        self.deterministic = False

    def __call__(
        self,
        x: Any,
        z0: PyTree | None = None,
        *,
        key: Array | None = None,
        max_iter: int | Array | None = None,
    ) -> tuple[PyTree, SolverInfo]:
        """Solves for the state.

        Args:
            x: the cell's input.
            z0: start state, instead of what `init` makes.
            key: passed on to `init`.
            max_iter: most iterations, instead of the configured ones. An integer array stops
                at run time, at most at the configured number, without recompiling.

        Returns:
            The state and its `jdeq.SolverInfo`.
        """
        cell = self.cell.fold() if isinstance(self.cell, WeightNorm) else self.cell
        if z0 is None:
            z0 = self._start(cell, x, key)
        solver = self.config.solver(train=not self.deterministic)
        if isinstance(max_iter, int):
            solver, max_iter = dataclasses.replace(solver, max_iter=max_iter), None
        return deq(
            lambda z: cell(z, x),
            z0,
            solver=solver,
            backward=self.config.backward(),
            batch_dims=self.batch_dims,
            n_states=1 if self.deterministic else self.config.n_states,
            indexing=None if self.deterministic else self.config.indexing or None,
            max_iter=max_iter,
        )

    def _start(self, cell: Any, x: Any, key: Array | None) -> PyTree:
        init = self.init or getattr(cell, "initial_state", None)
        if init is not None:
            return init(x) if key is None else init(x, key)
        if isinstance(x, jax.Array):
            return jnp.zeros_like(x)
        raise TypeError(
            "the start state is unknown: pass z0, give the layer an init function, or the cell "
            f"an initial_state method (zeros_like needs an array, x is {type(x).__name__})"
        )
