"""TorchDEQ, the library of the originals: its options, and how its solver differs from ours."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

import jdeq
from zoo.errors import UserError
from zoo.upstream.files import check_fields

WITHOUT_EFFECT = (*jdeq.DEQConfig.WITHOUT_COUNTERPART, "mem")  # on what is compared


def deq_config(what: str, options: Any, **changes: Any) -> jdeq.DEQConfig:
    """TorchDEQ's options, all of them by name, with some changed.

    Raises:
        UserError: an option is unknown, the norm's are missing, or a value is out of range.
    """
    default = jdeq.DEQConfig()
    optional = (*default.to_dict(), *WITHOUT_EFFECT)
    options = check_fields(what, options, default.part("norm"), optional)
    kept = {k: v for k, v in options.items() if k not in WITHOUT_EFFECT}
    try:
        return jdeq.DEQConfig.from_dict(kept | changes)
    except (TypeError, ValueError) as e:
        raise UserError(f"{what}: {e}") from e


def solved_by(solver: str, tol: float) -> dict[str, Any]:
    """DEQ options: solve for f, and its adjoint, down to this relative residual; 0: to the end."""
    one = {"solver": solver, "max_iter": 2000, "stop_mode": "rel", "tol": tol}
    return {f"{side}_{name}": value for side in ("f", "b") for name, value in one.items()}


def few_steps(
    f: Callable[[Array], Array],
    z0: Array,
    steps: int,
    phantom: jdeq.PhantomGrad,
) -> tuple[Array, jdeq.SolverInfo]:
    """TorchDEQ's fixed point iteration where few steps are made; then those with a gradient.

    TorchDEQ hands back the image of the best state that it measured, jdeq the best state itself.
    So one application of f follows upon one iteration less.

    Args:
        f, z0: the function and the start (B, ...).
        steps: evaluations of f by the solver.
        phantom: the steps with a gradient.
    """
    solver = jdeq.FixedPointIter(max_iter=steps - 1, tol=0)
    z, _ = jdeq.deq(f, z0, solver=solver, backward=jdeq.PhantomGrad(1))
    start = jax.lax.stop_gradient(z)
    return jdeq.deq(f, start, solver=jdeq.FixedPointIter(max_iter=0), backward=phantom)


def evaluated(layer: jdeq.nn.DEQ, given: Any, tolerance: float) -> tuple[Array, jdeq.SolverInfo]:
    """TorchDEQ's evaluation by a layer that is in evaluation, has `f_tol=0` and iterates f.

    TorchDEQ stops all samples when the worst one meets the tolerance, and hands back the image of
    the best state; residuals that fall make that the state after one iteration more. `steps` of
    the info is when the best state itself was met.
    """
    _, info = layer(given)
    worst = jnp.max(info.rel_trace, axis=0)  # of z_1, z_2, ...
    stops = jnp.append(worst < tolerance, True)
    z, info = layer(given, max_iter=jnp.argmax(stops) + 2)
    return z, info._replace(steps=info.steps - 1)


class FixedMask(nnx.Module):
    """Stands in for a dropout layer: multiplies by a recorded mask."""

    def __init__(self, mask: np.ndarray):
        self.mask = nnx.Variable(jnp.asarray(mask))

    def __call__(self, x: Array) -> Array:
        """x with the mask's axes, some of which are 1 -> same shape."""
        return x * self.mask[...]


def probed_jac_reg(f: Callable[[Array], Array], z: Array, probe: Array) -> Array:
    """`jdeq.jac_reg` with a recorded probe, like `z`, instead of a random one."""
    recorded = lambda key, shape, dtype: probe.reshape(shape).astype(dtype)
    return jdeq.jac_reg(f, z, jax.random.key(0), distribution=recorded)


def folded(layer: jdeq.nn.DEQ) -> Any:
    """The equilibrium function of a layer with its normalised kernels, on its own."""
    cell = layer.cell
    return cell.fold() if isinstance(cell, jdeq.nn.KernelNorm) else cell
