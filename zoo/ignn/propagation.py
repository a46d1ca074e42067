"""What travels along the edges of graphs."""

from typing import NamedTuple

import jax
from jax import Array

from zoo.precision import wide


class Edges(NamedTuple):
    """The edges of B packs of graphs; those that fill up have weight 0.

    `sources`, `targets` (B, E) int32 are nodes, `weights` (B, E) is `A[source, target]`; where an
    edge is there twice, the weights add up. `rho` (B,) is the spectral radius of |A|.
    """

    sources: Array
    targets: Array
    weights: Array
    rho: Array

    def propagate(self, h: Array) -> Array:
        """`A^T h` of every pack: what arrives at each node. h (B, N, m) -> same shape.

        Linear in `h` and in `weights`, which get their gradients. Sums run in float32 at least.

        Example:
            >>> edge = Edges(*jnp.array([[[0]], [[1]]]), jnp.array([[0.5]]), jnp.array([0.0]))
            >>> edge.propagate(jnp.array([[[4.0], [1.0]]])).tolist()
            [[[0.0], [2.0]]]
        """

        def arriving(h: Array, sources: Array, targets: Array, weights: Array) -> Array:
            leaving = h.at[sources].get(mode="promise_in_bounds")
            sent = wide(leaving) * wide(weights)[:, None]
            return jax.ops.segment_sum(sent, targets, len(h))

        args = (h, self.sources, self.targets, self.weights)
        if len(h) == 1:  # a third faster on a CPU than a batch of one
            arrived = arriving(*(a[0] for a in args))[None]
        else:
            arrived = jax.vmap(arriving)(*args)
        return arrived.astype(h.dtype)
