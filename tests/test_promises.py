"""What every solve promises: independence, best state, precision, exact gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.test_util import check_grads

import jdeq
from jdeq import Status

from .problems import affine, matrix, tanh_system

SOLVERS = {
    "fixed_point_iter": jdeq.FixedPointIter,
    "simple_fixed_point_iter": jdeq.SimpleFixedPointIter,
    "anderson": jdeq.Anderson,
    "broyden": jdeq.Broyden,
}
STOPPING = [s for s in SOLVERS if s != "simple_fixed_point_iter"]
TIGHT = {
    "fixed_point_iter": jdeq.FixedPointIter(max_iter=4000, tol=1e-13),
    "simple_fixed_point_iter": jdeq.SimpleFixedPointIter(max_iter=3000),
    "anderson": jdeq.Anderson(max_iter=400, tol=1e-13),
    "broyden": jdeq.Broyden(max_iter=80, tol=1e-13),
}


@pytest.mark.parametrize(
    "radius",
    [pytest.param(0.5, marks=pytest.mark.slow), 0.9, pytest.param(0.99, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("solver", TIGHT)
def test_affine_system_and_its_gradients_are_exact(solver, radius):
    rng = np.random.default_rng(2)
    shapes = ((16, 10), (16,), (4, 10))
    params = (matrix(16, radius), *(rng.normal(size=s) for s in shapes))
    weight = rng.normal(size=(4, 16))

    def solve(w, u, b, x):
        f = lambda z: z @ w.T + x @ u.T + b[None]
        backward = jdeq.IFT(solver=TIGHT[solver])
        return jdeq.deq(f, jnp.zeros((4, 16)), solver=TIGHT[solver], backward=backward)[0]

    w, u, b, x = params
    z = np.linalg.solve(np.eye(16) - w, (x @ u.T + b).T).T
    y = np.linalg.solve((np.eye(16) - w).T, weight.T).T
    want = y.T @ z, y.T @ x, y.sum(0), y @ u
    params = tuple(map(jnp.asarray, params))
    np.testing.assert_allclose(jax.jit(solve)(*params), z, atol=1e-9)
    loss = lambda *p: jnp.sum(solve(*p) * weight)
    for got, expected in zip(jax.jit(jax.grad(loss, (0, 1, 2, 3)))(*params), want, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("solver", TIGHT)
def test_gradient_of_a_coupled_tanh_network_is_the_dense_one(solver):
    f, params, z0 = tanh_system()
    flat0, unravel = ravel_pytree(z0)

    def loss(p):
        z, _ = jdeq.deq(
            lambda z: f(p, z), z0, solver=TIGHT[solver], backward=jdeq.IFT(solver=TIGHT[solver])
        )
        return jnp.sum(z["a"] ** 2) + jnp.sum(z["b"] ** 3)

    flat_f = lambda p, v: ravel_pytree(f(p, unravel(v)))[0]
    v = flat0
    for _ in range(50):  # Newton with the dense Jacobian
        v = v - jnp.linalg.solve(
            jax.jacobian(flat_f, 1)(params, v) - jnp.eye(v.size), flat_f(params, v) - v
        )
    cotangent = jax.grad(lambda v: jnp.sum(unravel(v)["a"] ** 2) + jnp.sum(unravel(v)["b"] ** 3))
    jacobian = jax.jacobian(flat_f, 1)(params, v)
    y = jnp.linalg.solve((jnp.eye(v.size) - jacobian).T, cotangent(v))
    want = jax.vjp(lambda p: flat_f(p, v), params)[1](y)[0]
    got = jax.jit(jax.grad(loss))(params)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, atol=1e-8), got, want)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["fixed_point_iter", "broyden"])
def test_derivatives_of_both_orders_agree_with_finite_differences(solver):
    f, params, z0 = tanh_system(batch=2)

    def loss(p):
        z, _ = jdeq.deq(
            lambda z: f(p, z), z0, solver=TIGHT[solver], backward=jdeq.IFT(solver=TIGHT[solver])
        )
        return jnp.sum(z["a"] ** 2) + jnp.sum(z["b"] ** 3)

    check_grads(jax.jit(loss), (params,), order=2, modes=["rev"], atol=1e-5, rtol=1e-5)


def gained_tanh(gain, w, x):
    """f of samples with their own gain: the larger, the more iterations it takes."""
    return lambda z: jnp.tanh(gain[:, None] * (z @ w) + x)


@pytest.mark.parametrize("stop_mode", ["abs", "rel"])
@pytest.mark.parametrize("solver", STOPPING)
def test_a_sample_does_not_depend_on_its_batch(solver, stop_mode):
    rng = np.random.default_rng(3)
    w = jnp.asarray(matrix(12, 1.0), jnp.float32)
    gain = jnp.asarray(rng.uniform(0.1, 0.95, 64), jnp.float32)
    x = jnp.asarray(rng.normal(size=(64, 12)), jnp.float32)
    order = rng.permutation(64)
    settings = SOLVERS[solver](max_iter=100, tol=1e-4, stop_mode=stop_mode)

    @jax.jit
    def solve(gain, x):
        return jdeq.deq(gained_tanh(gain, w, x), jnp.zeros_like(x), solver=settings)

    z, info = solve(gain, x)
    assert len(set(info.steps.tolist())) > 3
    z_shuffled, shuffled = solve(gain[order], x[order])
    alone = [solve(gain[i : i + 1], x[i : i + 1]) for i in range(64)]
    z_alone = np.concatenate([z for z, _ in alone])
    for field in ("steps", "status"):
        together = np.asarray(getattr(info, field))
        np.testing.assert_array_equal(getattr(shuffled, field), together[order])
        np.testing.assert_array_equal([getattr(i, field)[0] for _, i in alone], together)
    np.testing.assert_allclose(z_shuffled, z[order], atol=1e-6)
    np.testing.assert_allclose(z_alone, z, atol=1e-6)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_sample_that_breaks_leaves_the_others_bit_identical(solver):
    rng = np.random.default_rng(4)
    w = jnp.asarray(matrix(12, 0.8), jnp.float32)
    x = jnp.asarray(rng.normal(size=(64, 12)), jnp.float32)
    settings = SOLVERS[solver](max_iter=30)
    broken = jnp.arange(64) == 17

    @jax.jit
    def solve(break_at):  # from the third evaluation on, |z| of a sample is beyond break_at
        def f(z):
            fz = jnp.tanh(z @ w + x)
            bad = jnp.sqrt(jnp.sum(fz**2, -1, keepdims=True)) > break_at[:, None]
            return jnp.where(bad, jnp.nan, fz)

        return jdeq.deq(f, jnp.zeros_like(x), solver=settings)

    whole, info = solve(jnp.full((64,), jnp.inf, jnp.float32))
    partial, broken_info = solve(jnp.where(broken, 1e-3, jnp.inf).astype(jnp.float32))
    np.testing.assert_array_equal(partial[~broken], whole[~broken])
    np.testing.assert_array_equal(broken_info.status[~broken], info.status[~broken])
    assert broken_info.status[17] == Status.NONFINITE
    np.testing.assert_array_equal(partial[17], 0)  # z0: no finite residual was ever met


@pytest.mark.parametrize("solver", STOPPING)
def test_a_converged_sample_is_frozen_bit_for_bit(solver):
    w, x = jnp.asarray(matrix(6, 0.9)), jnp.asarray(np.random.default_rng(5).normal(size=(2, 6)))
    gain = jnp.array([0.1, 1.0])
    runs = [
        jdeq.deq(
            gained_tanh(gain, w, x),
            jnp.zeros_like(x),
            solver=SOLVERS[solver](max_iter=n, tol=1e-3),
        )
        for n in (20, 60)
    ]
    (short, info), (long, _) = runs
    assert info.status[0] == Status.CONVERGED and info.steps[0] < 20
    np.testing.assert_array_equal(short[0], long[0])


@pytest.mark.parametrize("stop_mode", ["abs", "rel"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_residual_reported_is_that_of_the_state_returned(solver, stop_mode):
    f, params, z0 = tanh_system(seed=7)
    z, info = jdeq.deq(
        lambda z: f(params, z), z0, solver=SOLVERS[solver](max_iter=6, stop_mode=stop_mode)
    )
    fz = f(params, z)
    flat = lambda t: np.concatenate([np.reshape(t[k], (4, -1)) for k in ("a", "b")], 1)
    absolute = np.linalg.norm(flat(fz) - flat(z), axis=1)
    np.testing.assert_allclose(info.abs_residual, absolute, rtol=1e-12)
    np.testing.assert_allclose(
        info.rel_residual, absolute / (np.linalg.norm(flat(fz), axis=1) + 1e-9), rtol=1e-12
    )
    assert info.abs_trace.shape == info.rel_trace.shape == (4, 6)
    np.testing.assert_allclose(np.nanmin(info.abs_trace, 1), absolute, rtol=1e-12)


@pytest.mark.parametrize("solver", STOPPING)
def test_the_best_state_comes_back_when_the_map_repels(solver):
    f = lambda z: 3 * z + jnp.sin(5 * z)  # fixed point 0 repels, and Newton-like steps overshoot
    z0 = jnp.array([[0.3, -0.2], [1.0, 2.0]])
    z, info = jdeq.deq(f, z0, solver=SOLVERS[solver](max_iter=15, tol=1e-12, stop_mode="abs"))
    everything = np.concatenate([np.linalg.norm(f(z0) - z0, axis=1)[:, None], info.abs_trace], 1)
    np.testing.assert_allclose(info.abs_residual, np.nanmin(everything, 1), rtol=1e-12)
    np.testing.assert_array_equal(info.steps, np.nanargmin(everything, 1))
    last, final = jdeq.deq(
        f,
        z0,
        solver=SOLVERS[solver](max_iter=15, tol=1e-12, stop_mode="abs", return_final=True),
    )
    np.testing.assert_allclose(final.abs_residual, np.linalg.norm(f(last) - last, axis=1))


def test_a_tolerance_beyond_the_dtype_ends_in_stalled():
    w = jnp.asarray(matrix(8, 0.9), jnp.float32)
    f = lambda z: jnp.tanh(z @ w) + 1
    _, info = jdeq.deq(f, jnp.zeros((5, 8), jnp.float32), tol=1e-12, max_iter=2000)
    assert np.all((info.status == Status.STALLED) | (info.abs_residual == 0))
    assert info.nfe < 500


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64])
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_precision_reaches_its_own_resolution(solver, dtype):
    w, b = matrix(32, 0.4), np.random.default_rng(0).normal(size=(3, 32))
    f = lambda z: z @ jnp.asarray(w, dtype) + jnp.asarray(b, dtype)
    z, info = jdeq.deq(f, jnp.zeros((3, 32), dtype), solver=SOLVERS[solver]())
    assert z.dtype == dtype
    assert info.rel_residual.dtype == (jnp.float64 if dtype == jnp.float64 else jnp.float32)
    tol = float(jnp.finfo(dtype).eps) ** 0.75
    assert np.all(info.converged) and np.all(info.rel_residual < tol)
    want = np.asarray(affine(jnp.asarray(w), jnp.asarray(b)))
    error = np.linalg.norm(z.astype(jnp.float64) - want) / np.linalg.norm(want)
    assert error < 10 * tol


@pytest.mark.slow
@pytest.mark.parametrize("solver", STOPPING)
@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e3, 1e6])
def test_rescaling_the_state_changes_nothing(solver, scale):
    w, b = jnp.asarray(matrix(16, 0.95)), jnp.asarray(np.random.default_rng(1).normal(size=(4, 16)))
    solve = lambda c: jdeq.deq(
        lambda z: z @ w + c * b, jnp.zeros_like(b), solver=solver, max_iter=60, tol=1e-7
    )
    z, info = solve(1.0)
    scaled, scaled_info = solve(scale)
    np.testing.assert_array_equal(info.steps, scaled_info.steps)
    np.testing.assert_allclose(scaled / scale, z, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("backward", STOPPING)
@pytest.mark.parametrize("scale", [1e-8, 1e-6, 1e4])
def test_the_gradient_scales_with_the_loss(backward, scale):
    w, b = jnp.asarray(matrix(8, 0.8)), jnp.asarray(np.random.default_rng(1).normal(size=(4, 8)))

    def loss(w, scale):
        z, _ = jdeq.deq(
            lambda z: z @ w + b,
            jnp.zeros_like(b),
            solver=TIGHT["broyden"],
            backward=jdeq.IFT(solver=backward, tol=1e-5, max_iter=100),
        )
        return scale * jnp.sum(z**2)

    one, scaled = (jax.jit(jax.grad(loss))(w, c) for c in (1.0, scale))
    np.testing.assert_allclose(scaled / scale, one, rtol=1e-4, atol=1e-4 * np.abs(one).max())


@pytest.mark.parametrize("max_iter", [10, 100])
def test_a_diverging_backward_solve_gives_the_jacobian_free_gradient(max_iter):
    w, b = 1.5 * jnp.eye(8), jnp.ones((2, 8))

    def loss(b, backward):
        f = lambda z: z @ w + b
        return jnp.sum(jdeq.deq(f, jnp.zeros_like(b), solver="broyden", backward=backward)[0] ** 2)

    diverging = jdeq.IFT(solver="fixed_point_iter", max_iter=max_iter)
    got, want = (jax.jit(jax.grad(loss), static_argnums=1)(b, s) for s in (diverging, jdeq.JFB()))
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_ift_gives_no_gradient_to_the_start():
    loss = lambda z0: jdeq.deq(lambda z: 0.5 * z + 1, z0)[0].sum()
    np.testing.assert_array_equal(jax.grad(loss)(jnp.ones((2, 3))), 0)


def test_backward_callback_receives_the_adjoint_solve_under_jit():
    seen = []
    backward = jdeq.IFT(solver="broyden", tol=1e-8, callback=seen.append)
    loss = lambda b: jdeq.deq(lambda z: 0.5 * z + b, jnp.zeros((3, 2)), backward=backward)[0].sum()
    jax.block_until_ready(jax.jit(jax.grad(loss))(jnp.ones((3, 2))))
    jax.effects_barrier()
    (info,) = seen
    assert isinstance(info, jdeq.SolverInfo) and np.all(info.converged)


def test_on_failure_prints_one_line_under_jit(capfd):
    solve = lambda a: jdeq.deq(
        lambda z: a[:, None] * z + 1, jnp.zeros((3, 1)), max_iter=20, on_failure="warn"
    )
    jax.block_until_ready(jax.jit(solve)(jnp.array([0.1, 3.0, 0.2]))[0])
    jax.effects_barrier()
    line = capfd.readouterr().err
    assert "forward solve: 1 of 3 samples did not converge" in line and "MAX_ITER" in line
    jax.block_until_ready(jax.jit(solve)(jnp.array([0.1, 0.15, 0.2]))[0])
    jax.effects_barrier()
    assert capfd.readouterr().err == ""


def test_on_failure_speaks_of_the_backward_solve_too(capfd):
    def loss(b):
        backward = jdeq.IFT(solver="fixed_point_iter", max_iter=3)
        z, _ = jdeq.deq(
            lambda z: 0.9 * z + b,
            jnp.zeros((3, 2)),
            solver="broyden",
            backward=backward,
            on_failure="warn",
        )
        return z.sum()

    jax.block_until_ready(jax.jit(jax.grad(loss))(jnp.ones((3, 2))))
    jax.effects_barrier()
    assert "backward solve: 3 of 3 samples did not converge" in capfd.readouterr().err


def test_iterations_may_be_limited_at_run_time_without_recompiling():
    traces = []

    @jax.jit
    def solve(limit):
        def f(z):
            traces.append(1)
            return 0.9 * z + 1

        return jdeq.deq(
            f, jnp.zeros((2, 3)), solver=jdeq.FixedPointIter(max_iter=30), max_iter=limit
        )

    for limit in (0, 3, 17, 99):
        z, info = solve(jnp.asarray(limit, jnp.int32))
        steps = min(limit, 30)
        np.testing.assert_allclose(z, 10 * (1 - 0.9**steps), rtol=1e-12)
        np.testing.assert_array_equal(info.steps, steps)
        assert info.nfe == steps + 1
    assert len(traces) == 1
