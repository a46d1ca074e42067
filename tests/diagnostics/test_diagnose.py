"""Diagnostics against maps whose spectrum, fixed points and gradients are known."""

import sys

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

import jdeq
from jdeq.diagnostics import Behaviour
from tests.marks import EXHAUSTIVE, some_of

from ..problems import matrix, tanh_system

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)


def diagnose_affine(w, b=1.0, batch=2, **options):
    w, b = jnp.asarray(w), jnp.asarray(b)
    return jdeq.diagnose(lambda z: z @ w.T + b, jnp.zeros((batch, len(w))), KEY, **options)


def assert_spectrum(found, w):
    """The findings of an affine map z -> w z + b, whole Krylov space."""
    eigenvalues = np.linalg.eigvals(w)
    gap = np.linalg.svd(np.eye(len(w)) - w, compute_uv=False)[-1]
    away = 1 - eigenvalues
    tau = np.min(2 * away.real / np.abs(away) ** 2) if np.all(away.real > 0) else 0
    for field, want, tolerance in (
        ("lipschitz", np.linalg.norm(w, 2), 1e-3),
        ("spectral_radius", np.abs(eigenvalues).max(), 1e-6),
        ("smallest_singular_value", gap, 1e-6),
        ("distance_to_one", np.abs(away).min(), 1e-6),
        ("max_tau", min(2, tau), 1e-6),
    ):
        np.testing.assert_allclose(getattr(found, field), want, rtol=tolerance, err_msg=field)


ROTATION = np.array([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]])
MATRICES = {
    "diagonal": (np.diag([0.9, 0.5, -0.95]), Behaviour.CONTRACTS),
    "rotation and scaling": (0.8 * ROTATION, Behaviour.CONTRACTS),
    "growing rotation": (1.2 * ROTATION, Behaviour.DIVERGES),
    "non-normal": (np.array([[0.5, 5.0], [0.0, 0.6]]), Behaviour.CONTRACTS),
    "reflection": (np.diag([0.5, -1.0]), Behaviour.OSCILLATES),
    "rotation": (ROTATION, Behaviour.WANDERS),
    "eigenvalue beyond 1": (np.diag([0.5, 1.5]), Behaviour.DIVERGES),
    "Gaussian": (matrix(12, 0.9), Behaviour.CONTRACTS),
}


@pytest.mark.parametrize(
    "name", some_of(list(MATRICES), ["rotation", "eigenvalue beyond 1", "Gaussian"])
)
def test_spectra_of_affine_maps(name):
    w, behaviour = MATRICES[name]
    found = diagnose_affine(w)
    assert_spectrum(found, w)
    np.testing.assert_array_equal(found.behaviour, behaviour)
    np.testing.assert_array_equal(found.fixed_points, 1)
    assert not found.coupled.any()


def test_the_rate_of_plain_iteration_is_the_spectral_radius():
    np.testing.assert_allclose(diagnose_affine(np.diag([0.9, 0.5])).rate, 0.9, rtol=1e-6)
    np.testing.assert_allclose(diagnose_affine(np.diag([1.5, 0.5])).rate, 1.5, rtol=1e-6)


def test_a_large_sample_is_seen_through_few_products():
    w = matrix(300, 0.9)
    found = diagnose_affine(w, b=1.0, batch=1, krylov=60)
    np.testing.assert_allclose(found.spectral_radius, 0.9, rtol=0.02)
    gap = np.linalg.svd(np.eye(300) - w, compute_uv=False)[-1]
    assert gap <= found.smallest_singular_value[0] < 2 * gap


def test_tanh_of_both_signs_sample_by_sample():
    w = jnp.array([[2.0], [-2.0], [0.5]])
    found = jdeq.diagnose(lambda z: jnp.tanh(w * z), jnp.zeros((3, 1)), KEY, n_starts=12)
    np.testing.assert_allclose(found.spectral_radius, [2, 2, 0.5], rtol=1e-6)
    np.testing.assert_array_equal(found.fixed_points, [3, 1, 1])
    assert found.behaviour[1] == Behaviour.OSCILLATES and found.behaviour[2] == Behaviour.CONTRACTS
    np.testing.assert_allclose(found.max_tau, [0, 2 / 3, 2], rtol=1e-6)
    advice = "\n".join(found.advice)
    assert "1 of 3: plain iteration jumps between two states: damp with tau=0.6" in advice
    assert "1 of 3: different starts reach different fixed points" in advice


@pytest.mark.parametrize("factor, cured", [(0.95, True), (1.05, False)])
def test_the_damping_bound_is_the_one_that_matters(factor, cured):
    f = lambda z: jnp.tanh(-2 * z)
    tau = factor * float(jdeq.diagnose(f, jnp.zeros((1, 1)), KEY).max_tau[0])
    solver = jdeq.FixedPointIter(tau=tau, max_iter=500, stop_mode="abs", tol=1e-6)
    _, info = jdeq.deq(f, jnp.full((1, 1), 0.1), solver=solver)
    assert bool(info.converged.all()) is cured


def test_a_direction_along_which_nothing_is_determined():
    ones = np.full((20, 20), 1 / 20)  # the mean is kept: eigenvalue 1 along all ones
    found = diagnose_affine(ones + 0.5 * (np.eye(20) - ones), b=0.0)
    assert np.all(found.smallest_singular_value < 1e-10) and found.nearly_singular.all()
    np.testing.assert_array_equal(found.max_tau, 0)
    assert any("I - J is singular" in sentence for sentence in found.advice)


def test_samples_that_see_each_other():
    f = lambda z: 0.5 * (z - z.mean(0, keepdims=True)) / (1 + z.std(0, keepdims=True)) + 1
    found = jdeq.diagnose(f, jnp.zeros((5, 3)), KEY)
    assert found.coupled.all() and "running statistics" in found.advice[0]


@pytest.mark.parametrize("solver", some_of(["fixed_point_iter", "anderson"], ["anderson"]))
def test_pytrees_are_diagnosed_like_their_concatenation(solver):
    f, params, z0 = tanh_system()
    found = jdeq.diagnose(lambda z: f(params, z), z0, KEY, solver=solver)
    z, _ = jdeq.deq(lambda z: f(params, z), z0, solver="broyden", max_iter=60)
    for i in range(4):
        one = {**params, "xa": params["xa"][i : i + 1], "xb": params["xb"][i : i + 1]}
        flat = lambda v, one=one: jnp.concatenate(
            [
                jnp.ravel(a)
                for a in jax.tree.leaves(
                    f(one, {"a": v[None, :5], "b": jnp.reshape(v[5:], (1, 2, 3))})
                )
            ]
        )
        v = jnp.concatenate([z["a"][i], jnp.ravel(z["b"][i])])
        jacobian = np.asarray(jax.jacobian(flat)(v))
        eigenvalues = np.linalg.eigvals(jacobian)
        gap = np.linalg.svd(np.eye(11) - jacobian, compute_uv=False)[-1]
        np.testing.assert_allclose(found.spectral_radius[i], np.abs(eigenvalues).max(), rtol=1e-5)
        np.testing.assert_allclose(found.smallest_singular_value[i], gap, rtol=1e-5)
        np.testing.assert_allclose(found.lipschitz[i], np.linalg.norm(jacobian, 2), rtol=1e-3)


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float32", marks=EXHAUSTIVE)])
def test_narrow_states_and_single_systems(dtype):
    f = lambda z: jnp.asarray([3.0, 0.5], dtype) * z + 1
    found = jdeq.diagnose(f, jnp.zeros(2, dtype), KEY, batch_dims=0)
    assert found.status.shape == () and found.behaviour == Behaviour.DIVERGES
    np.testing.assert_allclose(found.spectral_radius, 3, rtol=0.05)
    (advice,) = found.advice
    assert all(f"{name} (" in advice for name in ("anderson", "broyden", "newton"))
    assert "fixed_point_iter 0 of 1 (" in repr(found)  # until it is out of range


@pytest.mark.parametrize("shape", [(0, 2), (2, 0)])
def test_nothing_is_no_trouble(shape):
    assert "nothing to improve" in repr(jdeq.diagnose(lambda z: 0.5 * z, jnp.zeros(shape), KEY))


def test_a_map_that_breaks_is_reported_not_raised():
    found = jdeq.diagnose(lambda z: jnp.nan * z, jnp.zeros((2, 3)), KEY)
    assert np.all(found.behaviour == Behaviour.DIVERGES) and np.all(found.fixed_points == 0)
    assert "did not converge" in repr(found)


def test_looking_under_jit_is_refused():
    f = lambda z: 0.5 * z
    with pytest.raises(TypeError, match="outside jit"):
        jax.jit(lambda z: jdeq.diagnose(f, z, KEY).rate)(jnp.zeros((1, 1)))
    with pytest.raises(TypeError, match="outside jit"):
        jax.jit(lambda p: jdeq.check_gradient(lambda p, z: p * z, p, jnp.sum, p).total)(jnp.ones(1))


def check(**how):
    f, params, z0 = tanh_system()
    loss = lambda z: jnp.sum(z["a"] ** 2) + jnp.sum(z["b"] ** 3)
    return jdeq.check_gradient(f, z0, loss, params, **how)


EXACT = jdeq.IFT(solver="broyden", tol=1e-12, max_iter=60)


@pytest.mark.parametrize("solver", ["fixed_point_iter", "anderson", "broyden"])
def test_a_good_gradient_is_good(solver):
    found = check(solver=solver, backward=EXACT, max_iter=100, rtol=1e-8)
    assert found.good and found.blame == () and "is good" in repr(found)
    assert found.finite_difference < 1e-6


def test_a_truncated_forward_is_blamed_on_the_forward():
    found = check(solver="fixed_point_iter", max_iter=4, backward=EXACT)
    assert found.blame == ("forward",) and "forward solve is to blame" in found.verdict
    np.testing.assert_allclose(found.total, found.forward, rtol=1e-3)


@pytest.mark.parametrize(
    "backward", [jdeq.IFT(solver="fixed_point_iter", max_iter=2), "jfb", jdeq.PhantomGrad(steps=2)]
)
def test_a_truncated_backward_is_blamed_on_the_backward(backward):
    found = check(solver="broyden", max_iter=60, tol=1e-10, backward=backward)
    assert found.blame == ("backward",) and "backward solve is to blame" in found.verdict
    np.testing.assert_allclose(found.total, found.backward, rtol=1e-3)


def test_both_may_be_to_blame():
    found = check(max_iter=3, backward=jdeq.IFT(solver="fixed_point_iter", max_iter=1))
    assert found.blame == ("forward", "backward") and found.total > found.rtol


def test_the_amplification_is_that_of_the_inverse():
    w = jnp.asarray(np.diag([0.99, 0.5]))
    f = lambda b, z: z @ w + b
    found = jdeq.check_gradient(f, jnp.zeros((1, 2)), jnp.sum, jnp.ones((1, 2)), max_iter=3000)
    np.testing.assert_allclose(found.amplification, 100, rtol=1e-6)


def test_without_a_fixed_point_there_is_no_reference():
    f = lambda p, z: z + z**2 + p
    found = jdeq.check_gradient(f, jnp.zeros((1, 1)), jnp.sum, jnp.ones((1, 1)), max_iter=5)
    assert "no reference" in found.verdict


def test_a_gradient_in_float32_with_integers_among_the_parameters():
    params = {"w": jnp.full((3, 3), 0.1, jnp.float32), "index": jnp.array([2, 0, 1])}
    f = lambda p, z: jnp.tanh(z @ p["w"][p["index"]] + jnp.ones_like(z))
    found = jdeq.check_gradient(f, jnp.zeros((2, 3), jnp.float32), jnp.sum, params)
    assert found.good and found.finite_difference < 1e-2


def test_what_check_gradient_refuses():
    f = lambda p, z: p * z
    with pytest.raises(ValueError, match="4096"):
        jdeq.check_gradient(f, jnp.zeros((1, 5000)), jnp.sum, jnp.ones((1, 1)))
    with pytest.raises(ValueError, match="no floating"):
        jdeq.check_gradient(f, jnp.zeros((1, 1)), jnp.sum, jnp.ones((1, 1), jnp.int32))


@pytest.fixture
def solved():
    gain = jnp.array([[0.1], [0.5], [0.9]])
    return jdeq.deq(lambda z: gain * z + 1, jnp.zeros((3, 1)), tol=1e-4, max_iter=100)[1]


def test_a_plot_shows_median_and_spread(solved):
    matplotlib.use("Agg")
    ax = jdeq.plot_convergence(solved, tol=1e-4)
    median, tol = ax.get_lines()
    x, y = np.asarray(median.get_xdata()), np.asarray(median.get_ydata())
    last = int(solved.steps.max())
    np.testing.assert_array_equal(x, np.arange(1, last + 1))
    trace = np.array(solved.rel_trace)[:, :last]
    assert np.all(trace[:, -1] == solved.rel_residual)  # a stopped sample holds its last residual
    np.testing.assert_allclose(y, np.median(trace, 0))
    np.testing.assert_allclose(np.asarray(tol.get_ydata()), 1e-4)
    (band,) = ax.collections
    corners = band.get_paths()[0].vertices
    np.testing.assert_allclose(corners[:, 1].max(), np.quantile(trace, 0.9, 0).max())
    assert ax.get_yscale() == "log" and ax.get_ylabel() == "relative residual"
    same = jdeq.plot_convergence(solved, ax, which="abs", label="again")
    assert same is ax and len(ax.get_lines()) == 3 and ax.get_ylabel() == "absolute residual"
    plt.close("all")


def test_a_sample_that_starts_solved_counts_with_its_residual():
    matplotlib.use("Agg")
    _, info = jdeq.deq(lambda z: 0.5 * z + 1, jnp.array([[2.0], [0.0]]), tol=1e-3)
    ax = jdeq.plot_convergence(info)
    assert np.all(np.isfinite(np.asarray(ax.get_lines()[0].get_ydata())))
    plt.close("all")


def test_what_cannot_be_plotted(solved, monkeypatch):
    with pytest.raises(ValueError, match="which"):
        jdeq.plot_convergence(solved, which="relative")  # pyright: ignore[reportArgumentType]
    _, info = jdeq.deq(lambda z: z, jnp.zeros((2, 1)), max_iter=0)
    with pytest.raises(ValueError, match="nothing to plot"):
        jdeq.plot_convergence(info)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"jdeq\[zoo\]"):
        jdeq.plot_convergence(solved)
