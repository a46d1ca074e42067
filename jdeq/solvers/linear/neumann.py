"""The truncated Neumann series for affine `f`."""

import dataclasses

from ..._loop import Solution
from ..._space import PyTree, Space
from ..base import Solver
from ..fixed_point import FixedPointIter
from ..simple_fixed_point import SimpleFixedPointIter


@dataclasses.dataclass(frozen=True, kw_only=True)
class Neumann(Solver):
    """The truncated Neumann series, `y_k = sum_{i<=k} A^i v`, for affine `f(y) = v + A y` only.

    That is fixed point iteration from `v`, where backward solves start. With `k = max_iter`, the
    error is exactly `A^{k+1} y`, so the series converges when every eigenvalue of `A` has modulus
    below 1; the last partial sum is what comes back, not the one with the lowest residual. With
    few terms the cheapest inexact implicit gradient, and a linear function of the cotangent.

    A term costs one product and no history.

    Args:
        tol: None: exactly `max_iter` terms, and the status says whether the sum happens to be
            converged to the default tolerance. A number stops a sample there.

    Source: Lorraine et al., *Optimizing Millions of Hyperparameters by Implicit Differentiation*
    (2020), for its use in implicit gradients.

    Example:
        >>> import jax, jax.numpy as jnp, jdeq
        >>> def loss(b):  # dz/db = 1 / (1 - 0.5) = 2, of which 1 + 0.5 + 0.25 is taken
        ...     f, backward = lambda z: 0.5 * z + b, jdeq.IFT(solver="neumann", max_iter=2)
        ...     return jdeq.deq(f, jnp.zeros((1, 1)), backward=backward)[0].sum()
        >>> float(jax.grad(loss)(1.0))
        1.75
    """

    @property
    def differentiates(self) -> bool:
        return False

    @property
    def fixed_length(self) -> bool:
        return True

    def solve(self, f, z0: PyTree, *, space: Space, limit, indexing, loop) -> Solution:
        if self.tol is None:
            series = SimpleFixedPointIter(max_iter=self.max_iter, stop_mode=self.stop_mode)
        else:
            series = FixedPointIter(
                max_iter=self.max_iter, tol=self.tol, stop_mode=self.stop_mode, return_final=True
            )
        return series.solve(f, z0, space=space, limit=limit, indexing=indexing, loop=loop)
