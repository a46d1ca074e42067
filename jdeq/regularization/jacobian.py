"""Jacobian regularisation."""

from collections.abc import Callable, Mapping
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from .._checks import check_int
from .._hoist import hoist
from .._space import PyTree, Space
from .._spectrum import Draw, random_like, repeat
from .._state import check_state

DISTRIBUTIONS: Mapping[str, Draw] = {
    "normal": jax.random.normal,
    "rademacher": jax.random.rademacher,
}


def jac_reg(
    f: Callable[[PyTree], PyTree],
    z: PyTree,
    key: Array,
    *,
    n_samples: int = 1,
    distribution: Literal["normal", "rademacher"] | Draw = "normal",
    batch_dims: int = 1,
    per_sample: bool = False,
) -> Array:
    """Estimates `||J||_F^2 / dim z`, `J = df/dz` at `z`: a bound of the squared spectral radius,
    to be made small in training.

    Hutchinson's estimate, the mean of `||eps^T J||^2 / dim z` over `n_samples` random probes with
    `E[eps eps^T] = I`. Costs one evaluation of `f` and `n_samples` vector-Jacobian products,
    batched; a gradient of it about twice that again.

    Add it, weighted, to the loss. Pass the `z*` that the solve returned, and the gradient makes
    `f` flatter there and also moves `z*` to where `f` is flat, which is the published penalty. With
    `jax.lax.stop_gradient(z_star)` it only makes `f` flatter: cheaper, and the solver's gradient,
    exact or not, plays no part. Either way it reaches the parameters that `f` closes over.

    Args:
        f: the equilibrium function, as given to `deq`.
        z: where to take the Jacobian, a pytree of floating arrays `(*batch, ...)`.
        key: PRNG key of the probes.
        n_samples: probes.
        distribution: of their entries. `"rademacher"` (signs) never has the larger variance, and
            none where `J J^T` is diagonal; `"normal"` is the published one. Or a function
            `(key, shape, dtype) -> array` with zero mean, unit variance, independent entries;
            the shape is that of a leaf after an axis of probes.
        batch_dims: how many leading axes are independent samples.
        per_sample: return every sample's own estimate instead of their mean.

    Returns:
        A scalar, or `(*batch,)` with `per_sample`, in float32 at least.

    Raises:
        TypeError: `f` changes structure, shape or dtype; `z` is not floating.
        ValueError: an option out of range.

    Source: Bai, Koltun, Kolter, *Stabilizing Equilibrium Models by Jacobian Regularization* (2021);
    TorchDEQ paper, eqs. 17-18.

    Example:
        >>> import jax, jax.numpy as jnp, jdeq
        >>> def loss(w, x, key):
        ...     f = lambda z: jnp.tanh(z @ w + x)
        ...     z, _ = jdeq.deq(f, jnp.zeros_like(x))
        ...     return jnp.mean(z**2) + 0.5 * jdeq.jac_reg(f, z, key)
        >>> w, x = 0.1 * jnp.eye(3), jnp.ones((2, 3))
        >>> jax.jit(jax.grad(loss))(w, x, jax.random.key(0)).shape
        (3, 3)
    """
    check_int("n_samples", n_samples, low=1)
    draw = DISTRIBUTIONS.get(distribution) if isinstance(distribution, str) else distribution
    if not callable(draw):
        raise ValueError(
            f"distribution must be {', '.join(map(repr, DISTRIBUTIONS))} or a function, "
            f"got {distribution!r}"
        )
    function, consts, z = hoist(f, check_state(z, batch_dims))
    space = Space(batch_dims)
    _, pull = jax.vjp(lambda z: function(consts, z), z)

    def square(probe: PyTree) -> Array:
        (pulled,) = pull(probe)
        return space.dot(pulled, pulled)

    squares = jnp.sum(jax.vmap(square)(random_like(key, repeat(z, n_samples), draw)), 0)
    entries = sum(x.size for x in jax.tree.leaves(z))
    if per_sample:
        return squares / max(n_samples * entries // max(squares.size, 1), 1)
    return jnp.sum(squares) / max(n_samples * entries, 1)
