from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from tests.golden import reference_folder
from tests.tolerances import rounding
from zoo.ignn.projection import project_l1


def by_a_general_solver(w: np.ndarray, radius: float) -> np.ndarray:
    """min |x - w|^2 with w's signs: x = sign(w) y, y >= 0, sum(y) <= radius; by SLSQP."""
    size = np.abs(w)
    found = optimize.minimize(
        lambda y: 0.5 * np.sum((y - size) ** 2),
        np.full(len(w), radius / len(w)),
        jac=lambda y: y - size,
        bounds=[(0, None)] * len(w),
        constraints={
            "type": "ineq",
            "fun": lambda y: radius - y.sum(),
            "jac": lambda y: -np.ones_like(y),
        },
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 500},
    )
    return np.sign(w) * found.x


@pytest.mark.parametrize("seed", range(4))
def test_it_is_what_a_general_convex_solver_finds(seed):
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(8, 5 + seed)) * rng.choice([0.1, 1.0, 10.0], (8, 1))
    radius = float(rng.uniform(0.2, 3.0))
    with jax.enable_x64(True):
        got = np.asarray(jax.jit(project_l1)(w, radius))
    want = np.stack([by_a_general_solver(row, radius) for row in w])
    np.testing.assert_allclose(got, want, atol=1e-6)  # of SLSQP
    assert (np.abs(got).sum(1) <= radius * (1 + rounding(np.float64, w.size))).all()


@pytest.mark.parametrize(
    ("row", "radius", "want"),
    [
        ([1.0, 1.0, -1.0, 1.0], 2.0, [0.5, 0.5, -0.5, 0.5]),
        ([3.0, 3.0, 1.0], 2.0, [1.0, 1.0, 0.0]),
        ([2.0, 1.0, 1.0], 1.0, [1.0, 0.0, 0.0]),  # those at alpha vanish
        ([0.0, 0.0, 0.0], 1.0, [0.0, 0.0, 0.0]),
        ([0.0, -5.0, 0.0], 1.0, [0.0, -1.0, 0.0]),
        ([0.5, -0.25], 0.75, [0.5, -0.25]),  # on the sphere
        ([0.5, -0.25], 0.0, [0.0, 0.0]),
        ([0.0, 0.0], 0.0, [0.0, 0.0]),
        ([-7.0], 2.0, [-2.0]),
        ([1e-30, 1e30], 1.0, [0.0, 1.0]),
    ],
)
def test_ties_zeros_and_no_radius(row, radius, want):
    w = jnp.asarray(row)
    assert project_l1(w, radius).tolist() == want
    assert project_l1(w[:, None], radius, axis=0)[:, 0].tolist() == want
    gradient = jax.grad(lambda w: jnp.sum(project_l1(w, radius)))(w)
    assert np.isfinite(gradient).all()


def test_what_is_inside_stays_to_the_bit():
    w = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    sums = np.abs(w).sum(1, keepdims=True)
    assert np.array_equal(project_l1(jnp.asarray(w), jnp.asarray(sums * 1.001)), w)
    assert np.array_equal(project_l1(jnp.asarray(w), np.inf), w)


def test_radii_of_several_packs():
    w = jnp.asarray(np.random.default_rng(0).normal(size=(6, 6)))
    radii = jnp.array([0.5, 1.0, 100.0])
    together = project_l1(w[None], radii[:, None, None], axis=-2)
    assert together.shape == (3, 6, 6)
    for radius, got in zip(radii, together, strict=True):
        np.testing.assert_array_equal(got, project_l1(w, radius, axis=0))


@pytest.mark.slow
def test_its_derivatives():
    rng = np.random.default_rng(1)
    w, radius = rng.normal(size=(4, 9)), np.array([[0.5], [1.0], [2.0], [100.0]])
    with jax.enable_x64(True):
        to, by = jnp.asarray(rng.normal(size=w.shape)), jnp.asarray(rng.normal(size=w.shape))
        along = lambda t: jnp.sum(to * project_l1(w + t * by, radius + t))
        h = 1e-6
        want = (along(h) - along(-h)) / (2 * h)
        np.testing.assert_allclose(jax.grad(along)(0.0), want, rtol=1e-8)
        # on what stays, the identity less the mean along the signs
        row = jnp.array([3.0, -2.0, 0.1])
        got = jax.jacobian(lambda w: project_l1(w, 2.0))(row)
        sign = np.array([1.0, -1.0, 0.0])
        np.testing.assert_allclose(got, np.diag(sign**2) - np.outer(sign, sign) / 2, atol=1e-15)


@pytest.mark.slow
def test_the_originals():
    with np.load(reference_folder("ignn/parts") / "golden.npz") as golden, jax.enable_x64(True):
        for i in range(7):
            case = {name: golden[f"projection/{i}/{name}"] for name in ("in", "radius")}
            w, radius = case["in"], case["radius"]
            close: Any = {"rtol": 1e-10, "atol": 1e-12}
            rows = project_l1(jnp.asarray(w), radius)
            np.testing.assert_allclose(rows, golden[f"projection/{i}/out"], **close)
            columns = project_l1(jnp.asarray(w), radius, axis=0)
            np.testing.assert_allclose(columns, golden[f"projection/{i}/out_transpose"], **close)
        w = jnp.asarray(golden["projection_inf_and_1/in"])
        both = project_l1(project_l1(w, 0.9), 0.7, axis=0)
        np.testing.assert_allclose(both, golden["projection_inf_and_1/out_inf_first"], **close)
        both = project_l1(project_l1(w, 0.7, axis=0), 0.9)
        np.testing.assert_allclose(both, golden["projection_inf_and_1/out_1_first"], **close)
