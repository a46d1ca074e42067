"""A start for the adjoint, handed over from an earlier step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq

from ...problems import matrix

pytestmark = pytest.mark.slow


def adjoint_solve(v, solver):
    """(start, w) -> y of a backward solve that starts at `start`, and what it says of itself."""
    infos = []
    backward = jdeq.IFT(solver=solver, tol=1e-10, callback=infos.append)

    @jax.jit
    @jax.grad
    def adjoint(start, w):
        f = lambda z: jnp.tanh(z @ w + 1)
        z, _ = jdeq.deq(
            f, jnp.zeros_like(v), solver="broyden", tol=1e-12, backward=backward, adjoint0=start
        )
        return jnp.sum(v * z)

    def run(start, w):
        y = adjoint(start, w)
        jax.effects_barrier()
        return y, infos.pop()

    return run


@pytest.mark.parametrize("solver", ["gmres", "broyden", "anderson"])
def test_a_warm_start_of_the_adjoint_saves_products_and_changes_nothing(solver):
    w, v = jnp.asarray(matrix(16, 0.9)), jnp.asarray(np.random.default_rng(3).normal(size=(4, 16)))
    adjoint_from = adjoint_solve(v, solver)
    y, cold = adjoint_from(jnp.zeros_like(v), w)
    _, warm = adjoint_from(y, w)
    assert int(warm.nfe) <= 2 < int(cold.nfe)
    after_a_step = w + 1e-6 * jnp.sin(w)
    moved, near = adjoint_from(y, after_a_step)
    anew, far = adjoint_from(jnp.zeros_like(v), after_a_step)
    np.testing.assert_allclose(moved, anew, rtol=0, atol=1e-7)
    assert int(near.nfe) < 0.8 * int(far.nfe)
    z = jdeq.deq(lambda z: jnp.tanh(z @ w + 1), jnp.zeros_like(v), solver="broyden", tol=1e-12)[0]
    slope = 1 - np.asarray(z) ** 2
    for i in range(4):
        want = np.linalg.solve(np.eye(16) - np.asarray(w) * slope[i], np.asarray(v)[i])
        np.testing.assert_allclose(y[i], want, rtol=0, atol=1e-7)


def test_a_warm_start_of_the_adjoint_is_checked():
    solve = lambda **settings: jdeq.deq(jnp.cos, jnp.zeros((2, 3)), **settings)
    with pytest.raises(ValueError, match="adjoint0 is for backward='ift', not for JFB"):
        solve(adjoint0=jnp.zeros((2, 3)), backward="jfb")
    with pytest.raises(TypeError, match=r"adjoint0 must be float64\[2, 3\] as in the state, not"):
        solve(adjoint0=jnp.zeros((2, 1)))
    with pytest.raises(ValueError, match="adjoint0 does not go with forward_mode"):
        solve(adjoint0=jnp.zeros((2, 3)), backward=jdeq.IFT(forward_mode=True))
