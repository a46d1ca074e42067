"""Fixed point (Picard) iteration."""

import dataclasses

from jax import Array

from .._checks import check_tau
from .._space import PyTree, Space
from .base import IterativeSolver


@dataclasses.dataclass(frozen=True, kw_only=True)
class FixedPointIter(IterativeSolver):
    """Damped fixed point iteration, `z <- (1 - tau) z + tau f(z)`.

    Converges when every eigenvalue `l` of `df/dz` at the solution has `|1 - tau (1 - l)| < 1`; the
    error then falls by the largest of these per iteration. An iteration costs one evaluation of
    `f` and holds no history: the cheapest step there is, and the safe choice for contractions.

    The residual that decides is that of `f`, `||f(z) - z||`, whatever `tau`.

    Args:
        tau: damping, in (0, 2]; 1 is the plain iteration. Small enough a `tau` tames eigenvalues
            of real part below 1, however large.
        give_up: stop samples, as `Status.STALLED`, whose residual would not be below the tolerance
            within `max_iter` if it went on falling as over the last 4 iterations. For a `Fallback`,
            where another solver takes over.

    Source: S. Banach, Fund. Math. 3 (1922); damped: M. A. Krasnosel'skii (1955).

    Example:
        >>> import jax.numpy as jnp, jdeq
        >>> z, info = jdeq.deq(jnp.cos, jnp.zeros(()), batch_dims=0, solver="fixed_point_iter")
        >>> print(f"{z:.4f}")
        0.7391
    """

    tau: float | Array = 1.0
    give_up: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_tau(self.tau)

    @property
    def leaps(self) -> bool:
        return False

    @property
    def gives_up(self) -> bool:
        return self.give_up

    def step(self, space: Space, k, z: PyTree, fz: PyTree, state):
        return space.damp(z, fz, self.tau), state
