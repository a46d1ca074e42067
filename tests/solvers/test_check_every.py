"""`check_every`: the same answers, asked for less often."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq

from ..tolerances import steered


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["fixed_point_iter", "anderson", "broyden"])
@pytest.mark.parametrize("every", [3, 7, 100])
@pytest.mark.parametrize("max_iter", [5, 40])
def test_nothing_changes_but_how_often_is_asked(solver, every, max_iter):
    rng = np.random.default_rng(0)
    w, x = jnp.asarray(rng.normal(size=(16, 16)) / 7), jnp.asarray(rng.normal(size=(6, 16)))
    calls = lambda **more: jdeq.deq(
        lambda z: jnp.tanh(z @ w + x),
        jnp.zeros_like(x),
        solver=solver,
        max_iter=max_iter,
        tol=1e-6,
        **more,
    )
    (a, once), (b, seldom) = calls(), calls(check_every=every)
    drift = steered(a.dtype, steps=max_iter, rate=0.6)
    np.testing.assert_allclose(a, b, rtol=0, atol=drift)
    for name in ("abs_trace", "rel_trace"):
        np.testing.assert_allclose(getattr(once, name), getattr(seldom, name), rtol=drift)
    for name in ("steps", "status"):
        np.testing.assert_array_equal(getattr(once, name), getattr(seldom, name))
    every = min(every, max_iter + 1)
    assert seldom.nfe == -(-int(once.nfe) // every) * every


@pytest.mark.slow
def test_shine_finds_its_history_unharmed():
    """Passes beyond the last one would write over the first directions."""
    x = jnp.linspace(-1, 1, 24).reshape(4, 6)

    def total(b, every):
        f = lambda z: 0.8 * jnp.sin(z + b * x)
        options = {"solver": "broyden", "max_iter": 12, "backward": "shine"}
        return jdeq.deq(f, x, check_every=every, **options)[0].sum()

    gradient = jax.grad(total)
    drift = steered(x.dtype, steps=12, rate=0.8)
    np.testing.assert_allclose(gradient(1.0, 1), gradient(1.0, 50), rtol=drift)


def test_it_is_a_count():
    with pytest.raises(ValueError, match="check_every must be >= 1"):
        jdeq.Anderson(check_every=0)
