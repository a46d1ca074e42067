"""The spectral radius of a Jacobian."""

from collections.abc import Callable
from typing import Literal

import jax
from jax import Array, lax

from .._checks import check_int
from .._hoist import hoist
from .._space import PyTree, Space
from .._spectrum import power_iteration, random_like
from .._state import check_like, check_state


def spectral_radius(
    f: Callable[[PyTree], PyTree],
    z: PyTree,
    key: Array | None = None,
    *,
    n_iters: int = 100,
    batch_dims: int = 1,
    method: Literal["growth", "rayleigh"] = "growth",
    v0: PyTree | None = None,
) -> Array:
    """Each sample's `rho(J)`, `J = df/dz` at `z`: the rate of plain iteration near a fixed point.

    Power iteration `v <- J^T v / ||J^T v||`. Cheap enough for a training metric; no gradient flows
    through it. `jdeq.diagnose` finds the eigenvalues themselves, from fewer products and more
    memory, outside `jit`.

    Args:
        f: the equilibrium function, as given to `deq`.
        z: where to take the Jacobian, usually `z*`: a pytree of floating arrays `(*batch, ...)`.
        key: PRNG key of the start vector; not needed with `v0`.
        n_iters: vector-Jacobian products.
        batch_dims: how many leading axes are independent samples.
        method: how the radius is read off. `"growth"` takes the rate at which `||(J^T)^k v||`
            grew over the second half of the iterations. `"rayleigh"` takes `|v^T J v|` of the last
            v, the published power method: the more precise where one real eigenvalue leads, and
            wrong, however many iterations, where a complex pair does.
        v0: start vector, like `z`; its length is of no matter. For a fixed direction, or one
            known from elsewhere.

    Returns:
        `(*batch,)`, in float32 at least. 0 where the Jacobian is 0 (or nilpotent, in `n_iters`
        steps), NaN where it is not finite.

    Raises:
        TypeError, ValueError: an option out of range, neither key nor `v0`, a `v0` unlike `z`; and
            as `jac_reg`.

    Source: TorchDEQ paper, sec. 2.6; Saad, *Numerical Methods for Large Eigenvalue Problems*
    (2011), sec. 4.1.

    Example:
        >>> import jax, jax.numpy as jnp, jdeq
        >>> rotation = 0.9 * jnp.array([[0.0, -1.0], [1.0, 0.0]])
        >>> rho = jdeq.spectral_radius(lambda z: z @ rotation, jnp.zeros((1, 2)), jax.random.key(0))
        >>> print(f"{rho[0]:.4f}")
        0.9000
    """
    check_int("n_iters", n_iters, low=1)
    if method not in ("growth", "rayleigh"):
        raise ValueError(f"method must be 'growth' or 'rayleigh', got {method!r}")
    function, consts, z = hoist(f, check_state(z, batch_dims))
    if v0 is not None:
        start = check_like(z, v0, "v0")
    elif key is not None:
        start = random_like(key, z)
    else:
        raise ValueError("spectral_radius needs a key, or a start vector v0")
    _, pull = jax.vjp(lambda z: function(consts, z), z)
    power = power_iteration(Space(batch_dims), lambda v: pull(v)[0], start, n_iters)
    return lax.stop_gradient(power.growth if method == "growth" else power.rayleigh)
