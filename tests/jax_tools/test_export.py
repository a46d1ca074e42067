"""Exported programs: sizes that are not known yet."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jdeq
from tests.marks import some_of

SOLVERS = (
    "fixed_point_iter",
    "simple_fixed_point_iter",
    "anderson",
    "broyden",
    "newton",
    "fallback",
)
W = 0.3 * jnp.eye(4)


@pytest.mark.slow
@pytest.mark.parametrize("solver", some_of(SOLVERS, ["fixed_point_iter", "broyden", "newton"]))
def test_batch_and_features_unknown(solver):
    """Value and gradient; two leaves, one of which mixes its entries."""

    def loss(x, y):
        f = lambda z: (0.5 * jnp.tanh(z[0]) + x, jnp.sin(z[1] @ W) + y)
        z, info = jdeq.deq(f, (jnp.zeros_like(x), jnp.zeros_like(y)), solver=solver)
        return z[0].sum() + z[1].sum(), info.status

    b, t = export.symbolic_shape("b, t")
    run = jax.jit(jax.grad(loss, has_aux=True))
    shapes = (jax.ShapeDtypeStruct(s, jnp.float64) for s in ((b, t, 3), (b, 4)))
    program = export.deserialize(export.export(run)(*shapes).serialize())
    for batch, length in ((2, 5), (3, 1)):
        x, y = jnp.ones((batch, length, 3)), jnp.ones((batch, 4))
        got, want = program.call(x, y), run(x, y)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), got, want)
