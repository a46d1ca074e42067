"""The DEQ layer."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx
from jax import Array, lax

from .._configured import ConfiguredDEQ
from .._info import SolverInfo
from .._space import PyTree, accumulator
from ..config import DEQConfig
from ..kernel_norms.base import fold_norms, normalised
from .dropout import dropout_layers, redraw

DROPOUT, PENALTY = 1, 2  # folded into a call's key, which `init` gets as it is


class DEQ(nnx.Module):
    """`z* = cell(z*, x)`: a layer whose output is the fixed point of a small network.

    The cell may read its variables while it is solved for, not write them. Call it under
    `nnx.jit` or `jax.jit`.

    Args:
        cell: `cell(z, x) -> z`, an NNX module or a function; `x` may be any pytree.
        config: solver, gradient, states and normalisation, as `jdeq.get_deq` takes it. With
            a `norm_type` the cell is wrapped in that norm. All norms in the cell, those inside of
            it included, are computed once per call; the power iteration of a spectral norm moves
            on in training only.
        init: makes the start state, `init(x)`, or `init(x, key)` when a key is given. By default
            the cell's own `initial_state`, which is called likewise, else zeros like `x`.
        predictor: a module or function `predictor(x) -> z0`: an explicit network that guesses the
            state (Skip DEQ), so that fewer iterations are needed. It gets no gradient through the
            state; train it by adding `skip_loss` to the loss. The better `f_tol` is to be met, the
            smaller the share of iterations that a guess saves.
        batch_dims: leading axes of the state that count samples.

    Attributes:
        deterministic: `layer.eval()` sets it, `layer.train()` clears it. In evaluation the layer
            makes `eval_f_max_iter` iterations, samples no intermediate states, and returns the
            solver's own state, without phantom steps (see `DEQConfig.backward`).

    Raises:
        TypeError: normalisation of a cell that is not a module; a Linen module that has no
            parameters, of which a function should be made; `x` is not an array and nothing else
            says how the state starts.
        ValueError: `init` and `predictor` both given; `skip_loss` without a predictor.

    Source: Bai et al., *Deep Equilibrium Models* (2019); the predictor: Pal et al., *Mixing
    Implicit and Explicit Deep Learning with Skip DEQs* (2022).

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
        config: DEQConfig | argparse.Namespace | Mapping[str, Any] | None = None,
        *,
        init: Callable[..., PyTree] | None = None,
        predictor: Callable[[Any], PyTree] | None = None,
        batch_dims: int = 1,
    ):
        if init is not None and predictor is not None:
            raise ValueError("init and predictor both make the start state: give one of them")
        if isinstance(cell, linen.Module) and cell.scope is None:
            raise TypeError(
                "cell is a Linen module without its parameters: solve for a function, "
                "`jdeq.get_deq(config)(lambda z: cell.apply(params, z, x), z0)`, or make the layer "
                "within a Linen module's @nn.compact method"
            )
        config = DEQConfig.make(config)
        self.cell = config.norm(cell)
        self.config = config
        self.init = init
        self.predictor = predictor
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
            z0: start state, instead of what `predictor` or `init` makes.
            key: passed on to `init`; and the source of the cell's variational dropout masks, which
                are new for every key and one and the same for all iterations.
            max_iter: most iterations, instead of the configured ones. An integer array stops
                at run time, at most at the configured number, without recompiling.

        Returns:
            The state and its `jdeq.SolverInfo`.

        Raises:
            ValueError: in training, the cell has variational dropout and there is no key.
        """
        with normalised(self.cell) as cell:
            return self._solve(cell, x, z0, key, max_iter)

    def _solve(
        self,
        cell: Any,
        x: Any,
        z0: PyTree | None,
        key: Array | None,
        max_iter: int | Array | None,
    ) -> tuple[PyTree, SolverInfo]:
        """Solves for the state of a cell without norms."""
        if z0 is None:
            z0 = self._start(cell, x, key)
        cell = self._masked(cell, key)
        return ConfiguredDEQ(self.config)(
            lambda z: cell(z, x),
            z0,
            train=not self.deterministic,
            batch_dims=self.batch_dims,
            max_iter=max_iter,
        )

    def f(self, x: Any, *, key: Array | None = None) -> Callable[[PyTree], PyTree]:
        """The equilibrium function `z -> cell(z, x)` that a call with the same arguments solves.

        For `jdeq.jac_reg`, `jdeq.spectral_radius`, `jdeq.diagnose` and the like: kernels are
        normalised, and with the same key the dropout masks are the same.
        """
        cell = self._masked(fold_norms(self.cell), key)
        return lambda z: cell(z, x)

    def jac_loss(
        self, x: Any, z: PyTree, key: Array, *, weight: float | Array | None = None
    ) -> Array:
        """The Jacobian penalty as configured, `jdeq.jac_reg` of `f`: add it to the loss.

        Args:
            x: the input, as given to the layer.
            z: the state that the layer returned for it; see `jac_reg` for what to detach.
            key: the key that the layer was called with, so that dropout masks are the same; the
                draws made here are independent of those made there.
            weight: instead of `jac_loss_weight`: a schedule's value, for one of
                `jdeq.incremental_weight`.

        Returns:
            A scalar, in float32 at least; without an evaluation of the cell if the weight is 0.
        """
        return ConfiguredDEQ(self.config).jac_loss(
            lambda z: self.f(x, key=key)(z),
            z,
            jax.random.fold_in(key, PENALTY),
            weight=weight,
            batch_dims=self.batch_dims,
        )

    def correction(self, loss_fn: Callable[[PyTree], Array], states: Sequence[PyTree]) -> Array:
        """The loss over `info.states`, or what was decoded of them, weighted by `gamma`."""
        return ConfiguredDEQ(self.config).correction(loss_fn, states)

    def skip_loss(self, x: Any, z_star: PyTree, *, detach: bool = True) -> Array:
        """Mean squared difference between `predictor(x)` and the state that was found.

        Add it, weighted, to the loss of a layer with a predictor. Under `jit` the prediction is
        the one that the call made: XLA computes it once.

        Args:
            x: the input, as given to the layer.
            z_star: the state that the layer returned for it.
            detach: take `z_star` as a constant, so that the loss trains the predictor and changes
                nothing else. False also draws the state towards the prediction, as in Pal et al.:
                an easier equilibrium, at the price of fitting the data less freely.

        Returns:
            A scalar over all entries of all leaves, in float32 at least.

        Raises:
            ValueError: the layer has no predictor, or it makes a state of another shape.
        """
        if self.predictor is None:
            raise ValueError("skip_loss needs a layer with a predictor: DEQ(cell, predictor=...)")
        if detach:
            z_star = lax.stop_gradient(z_star)
        guess = self.predictor(x)
        shapes = [jax.tree.map(jnp.shape, tree) for tree in (guess, z_star)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"the predictor makes {shapes[0]}, the state has {shapes[1]}")

        def squares(a: Array, b: Array) -> Array:
            wide = accumulator(b)
            return jnp.sum(jnp.square(a.astype(wide) - b.astype(wide)))

        leaves = jax.tree.leaves(z_star)
        wide = accumulator(*leaves)
        total = sum(s.astype(wide) for s in jax.tree.leaves(jax.tree.map(squares, guess, z_star)))
        return total / jnp.asarray(sum(leaf.size for leaf in leaves), wide)

    def _masked(self, cell: Any, key: Array | None) -> Any:
        """The cell with, in training, the dropout masks of this key."""
        if not any(m.rate > 0 and not m.deterministic for m in dropout_layers(cell)):
            return cell
        if key is None:
            raise ValueError(
                "the cell has variational dropout: call the layer with key=, new in every "
                "training step, or after layer.eval()"
            )
        return redraw(cell, jax.random.fold_in(key, DROPOUT))

    def _start(self, cell: Any, x: Any, key: Array | None) -> PyTree:
        if self.predictor is not None:
            return lax.stop_gradient(self.predictor(x))
        init = self.init or getattr(cell, "initial_state", None)
        if init is not None:
            return init(x) if key is None else init(x, key)
        if isinstance(x, jax.Array):
            return jnp.zeros_like(x)
        raise TypeError(
            "the start state is unknown: pass z0, give the layer an init function, or the cell "
            f"an initial_state method (zeros_like needs an array, x is {type(x).__name__})"
        )
