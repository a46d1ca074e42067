"""`solve_stream`: the same answers as alone, in the time of the mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq
from tests.marks import some_of

from .tolerances import solved, steered

N, WIDTH = 37, 32


def requests():
    """Of maps that contract by 0.1 to 0.95, each with its own fixed point."""
    rng = np.random.default_rng(0)
    rate = jnp.asarray(rng.uniform(0.1, 0.95, size=(N, 1)))
    return {"rate": rate, "b": jnp.asarray(rng.normal(size=(N, WIDTH)))}


def f(z, x):
    return x["rate"] * jnp.sin(z) + x["b"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "solver", some_of(["fixed_point_iter", "anderson", "broyden"], ["broyden"])
)
@pytest.mark.parametrize(("slots", "halvings"), [(1, 2), (8, 0), (8, 2), (64, 3)])
def test_each_request_gets_what_it_gets_alone(solver, slots, halvings):
    x, options = requests(), {"solver": solver, "max_iter": 60, "tol": 1e-6}
    z0 = jnp.zeros((N, WIDTH))
    alone_z, alone = jdeq.deq(lambda z: f(z, x), z0, **options)
    z, info = jax.jit(
        lambda x: jdeq.solve_stream(f, x, z0=z0, slots=slots, halvings=halvings, **options)
    )(x)
    np.testing.assert_array_equal(info.steps, alone.steps)
    np.testing.assert_array_equal(info.status, alone.status)
    reach = solved(1e-6, x["rate"][:, 0], np.linalg.norm(alone_z, axis=1))
    assert np.all(np.linalg.norm(z - alone_z, axis=1)[alone.converged] < 2 * reach[alone.converged])
    drift = steered(z.dtype, steps=60, rate=0.95)
    np.testing.assert_allclose(info.rel_trace, alone.rel_trace, rtol=drift, atol=0)
    assert info.nfe <= -(-int(np.sum(alone.steps + 1)) // min(slots, N)) + 61


@pytest.mark.slow
def test_a_broken_request_hurts_no_other():
    x = jnp.linspace(0.1, 0.8, 12)[:, None].at[5].set(jnp.inf)
    z, info = jdeq.solve_stream(lambda z, x: x * z + 1, x, slots=4, max_iter=200)
    assert info.status[5] == jdeq.Status.NONFINITE and np.all(np.isfinite(z))
    others = np.arange(12) != 5
    assert np.all(info.converged[others])
    np.testing.assert_allclose(z[others], 1 / (1 - x[others]), rtol=1e-8)


@pytest.mark.slow
def test_states_unlike_requests():
    x = jnp.linspace(1.0, 2.0, 9)
    z0 = {"a": jnp.ones((9, 2)), "b": jnp.zeros((9,))}
    g = lambda z, x: {"a": 0.5 * jnp.cos(z["a"]) + z["b"][:, None] / 4, "b": 0.3 * z["b"] + x}
    z, info = jdeq.solve_stream(g, x, z0=z0, slots=4, solver="anderson", tol=1e-10)
    assert np.all(info.converged)
    np.testing.assert_allclose(z["b"], x / 0.7, rtol=1e-8)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"solver": "newton"}, TypeError, "Newton"),
        ({"slots": 0}, ValueError, "slots"),
        ({"halvings": -1}, ValueError, "halvings"),
        ({"z0": jnp.zeros((3, 1))}, ValueError, "samples"),
        ({"z0": jnp.zeros((4, 1), int)}, TypeError, "z0"),
    ],
)
def test_mistakes_are_named(change, error, says):
    with pytest.raises(error, match=says):
        jdeq.solve_stream(lambda z, x: 0.5 * z + x, jnp.ones((4, 1)), **change)


def test_f_must_keep_the_shape():
    with pytest.raises(TypeError, match="must keep"):
        jdeq.solve_stream(lambda z, x: z[:, :1] + x[:, :1], jnp.ones((4, 3)))
