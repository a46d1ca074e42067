"""The spectral radius of maps whose spectrum is known, and TorchDEQ's power method."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jdeq
from jdeq._spectrum import power_iteration
from jdeq.extend import Space

from ..golden import load
from ..problems import matrix, tanh_system

KEY = jax.random.key(0)


def of(w, **how):
    w = jnp.asarray(w)
    z = jnp.ones((3, len(w)), w.dtype)
    return np.asarray(jdeq.spectral_radius(lambda z: z @ w.T, z, KEY, **how))


def rotation(angle):
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


STRETCH = np.diag([1.0, 3.0])
MATRICES = {
    "diagonal": (np.diag([0.9, 0.5, -0.3]), 0.9, 1e-6),
    "both signs": (np.diag([0.9, -0.9, 0.5]), 0.9, 1e-6),
    "growing": (np.diag([3.0, 1.0]), 3, 1e-6),
    "rotation": (0.8 * rotation(1), 0.8, 1e-12),
    "stretched rotation": (0.8 * STRETCH @ rotation(1) @ np.linalg.inv(STRETCH), 0.8, 5e-3),
    "non-normal": (np.array([[0.9, 20.0], [0.0, 0.7]]), 0.9, 1e-4),
    "defective": (np.array([[0.9, 1.0], [0.0, 0.9]]), 0.9, 0.03),
    "Gaussian": (matrix(16, 0.9), 0.9, 1e-3),
    "nilpotent": (np.array([[0.0, 1.0], [0.0, 0.0]]), 0, 0),
    "zero": (np.zeros((2, 2)), 0, 0),
}


@pytest.mark.parametrize("name", MATRICES)
def test_known_spectra(name):
    w, radius, rtol = MATRICES[name]
    np.testing.assert_allclose(of(w), radius, rtol=rtol, atol=0)


def test_a_rayleigh_quotient_fails_on_a_rotation_and_growth_does_not():
    """The published power method gave 0.41 for 0.9, and NaN for 0."""
    w = 0.9 * rotation(1.1)
    np.testing.assert_allclose(of(w, method="rayleigh"), 0.9 * np.cos(1.1), rtol=1e-12)
    np.testing.assert_allclose(of(w), 0.9, rtol=1e-12)
    np.testing.assert_array_equal(of(np.zeros((2, 2)), method="rayleigh"), 0)


def test_the_rayleigh_quotient_is_finer_where_it_works():
    w = matrix(8, 0.9, symmetric=True)
    error = {m: abs(of(w, method=m, n_iters=40) - 0.9).max() for m in ("rayleigh", "growth")}
    assert error["rayleigh"] < 0.1 * error["growth"]


CASES = [
    (name, n)
    for name in ("real", "complex", "general")
    for n in (1, 2, 5, 20, 100, 101)
    if name != "complex" or n <= 20
]


@pytest.mark.slow
@pytest.mark.parametrize("name, n", CASES)
def test_golden_power_method(name, n):
    arrays = load("regularisation")
    golden = lambda field: arrays[f"power_{name}__{field}"]
    w, z, v0 = (jnp.asarray(a) for a in (golden("W"), arrays["z"], golden("v0")))
    f = lambda z: jnp.tanh(z @ w.T)
    atol = 1e-9 if n <= 20 else 1e-7
    found = jax.jit(lambda: jdeq.spectral_radius(f, z, n_iters=n, method="rayleigh", v0=v0))()
    np.testing.assert_allclose(found, golden(f"it{n}__radius"), atol=atol)
    pull = jax.vjp(f, z)[1]
    vector = power_iteration(Space(1), lambda v: pull(v)[0], v0, n).vector
    np.testing.assert_allclose(vector, golden(f"it{n}__vector"), atol=atol)


@pytest.mark.parametrize("name", ["real", "complex", "general"])
def test_growth_against_golden_eigenvalues(name):
    arrays = load("regularisation")
    w = jnp.asarray(arrays[f"power_{name}__W"])
    found = jdeq.spectral_radius(lambda z: jnp.tanh(z @ w.T), jnp.asarray(arrays["z"]), KEY)
    np.testing.assert_allclose(found, arrays[f"power_{name}__true_radius"], rtol=0.02)


@pytest.mark.slow
def test_samples_and_leaves():
    f, params, z0 = tanh_system()
    z, _ = jdeq.deq(lambda z: f(params, z), z0, solver="broyden", max_iter=60)
    found = jdeq.spectral_radius(lambda z: f(params, z), z, KEY, n_iters=200)
    for i in range(4):
        one = {**params, "xa": params["xa"][i : i + 1], "xb": params["xb"][i : i + 1]}
        at = {"a": z["a"][i : i + 1], "b": z["b"][i : i + 1]}
        flat, back = ravel_pytree(at)
        g = lambda v, one=one, back=back: ravel_pytree(f(one, back(v)))[0]
        eigenvalues = np.linalg.eigvals(jax.jacobian(g)(flat))
        np.testing.assert_allclose(found[i], np.abs(eigenvalues).max(), rtol=5e-3)


def test_samples_do_not_see_each_other():
    gain = jnp.array([[0.5], [0.0], [jnp.nan], [2.0]])
    found = jdeq.spectral_radius(lambda z: gain * z, jnp.ones((4, 3)), KEY)
    np.testing.assert_allclose(found, [0.5, 0, np.nan, 2], rtol=1e-12)
    other = jdeq.spectral_radius(lambda z: gain * z, jnp.ones((4, 3)), KEY, method="rayleigh")
    np.testing.assert_allclose(other, [0.5, 0, np.nan, 2], rtol=1e-12)


def test_single_systems_under_vmap():
    w = jnp.stack([0.5 * jnp.eye(3), jnp.diag(jnp.array([0.1, 0.7, 0.0]))])
    radius = lambda w: jdeq.spectral_radius(lambda z: w @ z, jnp.ones(3), KEY, batch_dims=0)
    np.testing.assert_allclose(jax.vmap(radius)(w), [0.5, 0.7], rtol=1e-6)


def test_no_gradient_flows_through_it():
    radius = lambda a: jdeq.spectral_radius(lambda z: a * z, jnp.ones((2, 3)), KEY).sum()
    assert jax.grad(radius)(0.5) == 0


def test_more_iterations_are_closer():
    w = np.diag([0.9, 0.85])
    assert abs(of(w, n_iters=400) - 0.9).max() < 1e-3 * abs(of(w, n_iters=20) - 0.9).max()


def test_narrow_states():
    found = of(jnp.diag(jnp.array([0.9, 0.5])).astype(jnp.bfloat16))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 0.9, rtol=0.02)


def test_bad_options_are_named():
    f, z = (lambda z: z), jnp.ones((2, 3))
    bad: dict[str, Any] = {"n_iters": 0, "method": "arnoldi", "v0": jnp.ones((2, 4))}
    for option, value in bad.items():
        with pytest.raises((ValueError, TypeError), match=option):
            jdeq.spectral_radius(f, z, KEY, **{option: value})
    with pytest.raises(ValueError, match="key"):
        jdeq.spectral_radius(f, z)
