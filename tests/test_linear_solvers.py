"""Solvers for the linear systems of implicit gradients, against dense solves."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq
from jdeq import Status
from jdeq._problem import Problem
from jdeq.gradients.linear import solve_linear

from .problems import affine, matrix

pytestmark = pytest.mark.slow

KRYLOV = {"gmres": jdeq.GMRES, "bicgstab": jdeq.BiCGStab, "cg": jdeq.CG}
GENERAL = ["gmres", "bicgstab"]
N = 32
RNG = np.random.default_rng(0)
V = jnp.asarray(RNG.normal(size=(4, N)))


def symmetric(radius):
    q, _ = np.linalg.qr(RNG.normal(size=(N, N)))
    return q * np.linspace(-radius, radius, N) @ q.T


def non_normal(radius):
    q, _ = np.linalg.qr(RNG.normal(size=(N, N)))
    t = np.triu(0.25 * RNG.normal(size=(N, N)), 1) + np.diag(np.linspace(-radius, radius, N))
    return q @ t @ q.T


KINDS = {
    "symmetric": symmetric,
    "gauss": lambda radius: matrix(N, radius),
    "non-normal": non_normal,
}
RADII = [0.5, 0.9, 0.99]
MATRICES = {(kind, radius): KINDS[kind](radius) for kind in KINDS for radius in RADII}


@functools.partial(jax.jit, static_argnames="solver")
def solve(a, v, *, solver):
    """y = v + A y for rows of v, and what the solver says of it."""
    y, problem, solution = solve_linear(
        lambda y: y @ a.T,
        v,
        solver=solver,
        batch_dims=v.ndim - 1,
        differentiate=Problem.solve_detached,
    )
    return y, problem.info(solution)


@functools.partial(jax.jit, static_argnames="solver")
def gradient(a, b, *, solver):
    """Of the sum of z * V, through z = A z + b started at its solution."""

    def loss(a, b):
        start = jax.lax.stop_gradient(affine(a.T, b))
        here, backward = jdeq.FixedPointIter(max_iter=0), jdeq.IFT(solver=solver)
        return jnp.sum(
            jdeq.deq(lambda z: z @ a.T + b, start, solver=here, backward=backward)[0] * V
        )

    return jax.grad(loss, (0, 1))(a, b)


@pytest.mark.parametrize("solver", KRYLOV)
def test_gradients_are_those_of_the_dense_solve(solver):
    settings = KRYLOV[solver](max_iter=400, tol=1e-13)
    b = np.random.default_rng(1).normal(size=(4, N))
    for (kind, _), a in MATRICES.items():
        if solver == "cg" and kind != "symmetric":
            continue
        inverse = np.linalg.inv(np.eye(N) - a)
        y = np.asarray(V) @ inverse
        got = gradient(jnp.asarray(a), jnp.asarray(b), solver=settings)
        np.testing.assert_allclose(got[1], y, rtol=0, atol=1e-8 * np.abs(y).max())
        want = y.T @ (b @ inverse.T)
        np.testing.assert_allclose(got[0], want, rtol=0, atol=1e-8 * np.abs(want).max())


@pytest.mark.parametrize("tol", [1e-4, 1e-8])
@pytest.mark.parametrize("solver", KRYLOV)
def test_the_error_is_within_the_tolerance_times_the_conditioning(solver, tol):
    settings = KRYLOV[solver](max_iter=400, tol=tol)
    for (kind, _), a in MATRICES.items():
        if solver == "cg" and kind != "symmetric":
            continue
        y, info = solve(jnp.asarray(a), V, solver=settings)
        want = np.linalg.solve(np.eye(N) - a, np.asarray(V).T).T
        assert np.all(info.converged) and np.all(info.rel_residual < tol)
        error = np.linalg.norm(y - want, axis=1) / np.linalg.norm(want, axis=1)
        assert np.all(error <= 10 * tol * np.linalg.cond(np.eye(N) - a))


def test_full_gmres_needs_no_more_products_than_unknowns():
    for a in MATRICES.values():
        y, info = solve(jnp.asarray(a), V, solver=jdeq.GMRES(max_iter=N, tol=1e-9))
        assert np.all(info.converged) and info.nfe <= N + 3
        trace = np.asarray(info.abs_trace)
        steps = np.diff(trace, axis=1)
        assert np.all((steps <= 1e-10) | np.isnan(steps))  # the residual never rises


@pytest.mark.parametrize("radius", [1.5, 3.0])
@pytest.mark.parametrize("solver", GENERAL)
def test_eigenvalues_beyond_one_do_no_harm(solver, radius):
    a = matrix(16, radius)
    y, info = solve(jnp.asarray(a), V[:, :16], solver=KRYLOV[solver](max_iter=200, tol=1e-10))
    want = np.linalg.solve(np.eye(16) - a, np.asarray(V[:, :16]).T).T
    assert np.all(info.converged)
    np.testing.assert_allclose(y, want, rtol=0, atol=1e-7 * np.abs(want).max())


@pytest.mark.parametrize("kind", ["gauss", "non-normal"])
def test_cg_is_flagged_where_the_jacobian_is_not_symmetric(kind):
    a = MATRICES[kind, 0.9]
    y, info = solve(jnp.asarray(a), V, solver=jdeq.CG(max_iter=100, tol=1e-6))
    residual = np.linalg.norm(np.asarray(y) @ a.T + V - y, axis=1)
    assert not np.any(info.converged)
    size = np.linalg.norm(np.asarray(y) @ a.T + V, axis=1)
    replaced = np.all(y == V, axis=1)  # what CG made was worse than nothing: y = v instead
    assert np.all(info.abs_residual[replaced] > 0.5)  # |v| is scaled to 0.5 .. 1
    kept = ~replaced
    np.testing.assert_allclose(info.rel_residual[kept], (residual / size)[kept], rtol=1e-6)


@pytest.mark.parametrize("terms", [0, 1, 5, 20])
def test_a_truncated_neumann_series_has_its_exact_error(terms):
    for kind in KINDS:
        a = MATRICES[kind, 0.9]
        y, info = solve(jnp.asarray(a), V, solver=jdeq.Neumann(max_iter=terms))
        want = np.linalg.solve(np.eye(N) - a, np.asarray(V).T).T
        error = want @ np.linalg.matrix_power(a.T, terms + 1)
        np.testing.assert_allclose(want - y, error, rtol=0, atol=1e-11 * np.abs(want).max())
        assert info.nfe == terms + 1 and not np.any(info.converged)


def test_a_neumann_series_with_a_tolerance_stops_there():
    a = jnp.asarray(MATRICES["symmetric", 0.5])
    y, info = solve(a, V, solver=jdeq.Neumann(max_iter=100, tol=1e-6))
    assert np.all(info.converged) and info.nfe < 30
    np.testing.assert_allclose(y, affine(a.T, V), atol=1e-4)


@pytest.mark.parametrize("solver", KRYLOV)
def test_gradient_of_a_tanh_network(solver):
    """CG on one whose Jacobian is symmetric, as that of a gradient step is."""
    w = jnp.asarray(matrix(8, 0.5, symmetric=True))
    x = jnp.asarray(np.random.default_rng(2).normal(size=(3, 8)))
    plain = lambda w, z: jnp.tanh(z @ w + x)
    f = (lambda w, z: plain(w, z) @ w.T) if solver == "cg" else plain

    def loss(w, backward):
        z, _ = jdeq.deq(
            lambda z: f(w, z), jnp.zeros_like(x), solver=jdeq.Broyden(tol=1e-13), backward=backward
        )
        return jnp.sum(z**3)

    got = jax.jit(jax.grad(lambda w: loss(w, jdeq.IFT(solver, tol=1e-13, max_iter=100))))(w)
    want = jax.jit(jax.grad(lambda w: loss(w, jdeq.PhantomGrad(100))))(w)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-8)


@functools.partial(jax.jit, static_argnames="solver")
def solve_with_gains(last, *, solver):
    """Four systems y = v + gain A y; the last gain is given."""
    gains = jnp.stack([jnp.array(0.3), jnp.array(0.5), jnp.array(0.7), last])[:, None]
    a = jnp.asarray(MATRICES["symmetric", 0.99])
    y, problem, solution = solve_linear(
        lambda y: gains * (y @ a),
        V,
        solver=solver,
        batch_dims=1,
        differentiate=Problem.solve_detached,
    )
    return y, problem.info(solution)


HARD = {"harder": (0.999, None), "singular": (1 / 0.99, None), "NaN": (jnp.nan, Status.NONFINITE)}


@pytest.mark.parametrize("hard", HARD)
@pytest.mark.parametrize("solver", KRYLOV)
def test_a_hard_sample_leaves_the_others_bit_identical(solver, hard):
    run = functools.partial(solve_with_gains, solver=KRYLOV[solver](max_iter=60, tol=1e-9))
    gain, status = HARD[hard]
    (easy, easy_info), (y, info) = run(jnp.array(0.5)), run(jnp.array(gain))
    np.testing.assert_array_equal(y[:3], easy[:3])
    for field in ("steps", "status", "rel_residual", "rel_trace"):
        np.testing.assert_array_equal(getattr(info, field)[:3], getattr(easy_info, field)[:3])
    assert np.all(np.isfinite(y))
    if status is not None:
        assert info.status[3] == status
        np.testing.assert_allclose(y[3], V[3], rtol=1e-15)


@pytest.mark.parametrize("solver", KRYLOV)
def test_a_breakdown_at_once_is_told(solver):
    settings = KRYLOV[solver](tol=1e-10, stop_mode="abs")
    turn = jnp.array([[1.0, 1.0], [-1.0, 1.0]])  # I - A is a rotation: <r, (I - A) r> = 0
    y, info = solve(turn, V[:, :2], solver=settings)
    assert np.all(np.isfinite(y)) and np.all(np.isfinite(info.abs_residual))
    assert np.all(info.status == (Status.CONVERGED if solver == "gmres" else Status.STALLED))
    singular, info = solve(jnp.eye(2), V[:, :2], solver=settings)
    assert np.all(info.status == Status.STALLED) and np.all(np.isfinite(singular))


@pytest.mark.parametrize("solver", KRYLOV)
def test_a_forward_solve_of_a_map_that_is_not_affine_does_not_lie(solver):
    f = lambda z: jnp.cos(3 * z)
    z0 = jnp.array([[0.3, -0.2], [1.0, 2.0]])
    z, info = jdeq.deq(f, z0, solver=solver, max_iter=20)
    np.testing.assert_allclose(info.abs_residual, np.linalg.norm(f(z) - z, axis=1), rtol=1e-12)
    assert np.all(info.abs_residual <= np.linalg.norm(f(z0) - z0, axis=1))
    assert not np.any(info.converged) or np.all(info.rel_residual[info.converged] < 1e-11)


@pytest.mark.parametrize("solver", [*KRYLOV, "neumann"])
def test_at_most_max_iter_products(solver):
    a = jnp.asarray(MATRICES["symmetric", 0.99])
    settings = (KRYLOV | {"neumann": jdeq.Neumann})[solver](max_iter=4, stop_mode="abs", tol=1e-9)

    @jax.jit
    def run(limit):
        return jdeq.deq(lambda z: z @ a + V, V, solver=settings, max_iter=limit)

    for limit in (0, 1, 3, 9):
        z, info = run(jnp.asarray(limit, jnp.int32))
        assert info.abs_trace.shape == (4, 4) and np.all(info.steps <= min(limit, 4))
        assert np.all(info.status == Status.MAX_ITER) and info.nfe <= 2 * min(limit, 4) + 3
        np.testing.assert_allclose(
            info.abs_residual, np.linalg.norm(z @ a + V - z, axis=1), rtol=1e-9
        )
    z, info = jdeq.deq(lambda z: z @ a + V, V, solver=solver, max_iter=0)
    np.testing.assert_array_equal(z, V)
    assert info.abs_trace.shape == (4, 0)


@pytest.mark.parametrize("solver", KRYLOV)
@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_the_scale_of_the_loss_plays_no_part(solver, scale):
    a, settings = jnp.asarray(MATRICES["symmetric", 0.9]), KRYLOV[solver](tol=1e-6)
    y, info = solve(a, V, solver=settings)
    scaled, scaled_info = solve(a, scale * V, solver=settings)
    np.testing.assert_array_equal(info.steps, scaled_info.steps)
    np.testing.assert_allclose(scaled / scale, y, rtol=1e-10)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("solver", [*KRYLOV, "neumann"])
def test_every_precision_reaches_its_own_resolution(solver, dtype):
    a = symmetric(0.4)
    v = V.astype(dtype)
    y, info = solve(jnp.asarray(a, dtype), v, solver=(KRYLOV | {"neumann": jdeq.Neumann})[solver]())
    assert y.dtype == dtype and info.rel_residual.dtype == jnp.float32 and np.all(info.converged)
    want = np.linalg.solve(np.eye(N) - a, np.asarray(V).T).T
    error = np.linalg.norm(y.astype(jnp.float64) - want) / np.linalg.norm(want)
    assert error < 10 * float(jnp.finfo(dtype).eps) ** 0.75


def test_derivatives_of_second_order_and_in_forward_mode():
    w, b = jnp.asarray(matrix(3, 0.4)), jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)))

    def solve(w, forward_mode=False):
        z, _ = jdeq.deq(
            lambda z: z @ w + b,
            jnp.zeros_like(b),
            solver=jdeq.FixedPointIter(tol=1e-14, max_iter=100),
            backward=jdeq.IFT(solver="gmres", tol=1e-12, forward_mode=forward_mode),
        )
        return z

    loss = lambda w: jnp.sum(solve(w) ** 2)
    want = jax.hessian(lambda w: jnp.sum(affine(w, b) ** 2))(w)
    np.testing.assert_allclose(jax.jit(jax.jacrev(jax.jacrev(loss)))(w), want, rtol=0, atol=1e-9)
    both = functools.partial(solve, forward_mode=True)
    want = jax.jacfwd(lambda w: affine(w, b))(w)
    np.testing.assert_allclose(jax.jit(jax.jacfwd(both))(w), want, rtol=0, atol=1e-9)


def compiled_text(fn, *args) -> Any:
    return jax.jit(fn).lower(*args).compile().as_text()


@pytest.mark.parametrize("solver", KRYLOV)
def test_vmap_is_one_batched_solve_with_the_same_outcome(solver):
    a = jnp.asarray(MATRICES["symmetric", 0.9])
    gains = jnp.linspace(0.1, 1, 4)
    settings = KRYLOV[solver](max_iter=60, tol=1e-6)

    def batch(gains, b):
        return jdeq.deq(lambda z: gains[:, None] * (z @ a) + b, b, solver=settings)

    def one(gain, b):
        return jdeq.deq(lambda z: gain * (z @ a) + b, b, solver=settings, batch_dims=0)

    z, info = jax.jit(batch)(gains, V)
    z_lanes, lanes = jax.jit(jax.vmap(one))(gains, V)
    assert len(set(info.steps.tolist())) > 2
    np.testing.assert_allclose(z_lanes, z, atol=1e-8)
    np.testing.assert_array_equal(lanes.steps, info.steps)
    np.testing.assert_array_equal(lanes.status, info.status)
    assert info.nfe == lanes.nfe.max()
    loops = [compiled_text(fn, gains, V).count(" while(") for fn in (batch, jax.vmap(one))]
    assert loops == [2, 2]  # cycles, and products in a cycle


@pytest.mark.parametrize("solver, kind", [(s, "explicit") for s in KRYLOV] + [("gmres", "auto")])
def test_a_sharded_batch_stays_sharded(solver, kind):
    axis = {"auto": jax.sharding.AxisType.Auto, "explicit": jax.sharding.AxisType.Explicit}[kind]
    mesh = jax.make_mesh((4,), ("data",), axis_types=(axis,))
    a = jnp.asarray(MATRICES["symmetric", 0.9])
    settings = KRYLOV[solver](max_iter=60, tol=1e-10)

    def loss(a, b):
        f = lambda z: z @ a + b
        here = jdeq.FixedPointIter(max_iter=2)
        return jnp.sum(jdeq.deq(f, b, solver=here, backward=jdeq.IFT(solver=settings))[0] * b)

    grad = jax.grad(loss, 1)
    with jax.set_mesh(mesh):
        sharded = jax.device_put(V, jax.NamedSharding(mesh, jax.P("data")))
        everywhere = jax.device_put(a, jax.NamedSharding(mesh, jax.P()))
        got = jax.jit(grad)(everywhere, sharded)
        text = compiled_text(grad, everywhere, sharded)
    assert got.sharding.is_equivalent_to(sharded.sharding, 2)
    for collective in ("all-gather", "all-to-all", "collective-permute", "reduce-scatter"):
        assert collective not in text
    np.testing.assert_allclose(got, jax.jit(grad)(a, V), atol=1e-8)


@pytest.mark.parametrize("solver", KRYLOV)
def test_states_of_several_leaves_are_one_system_per_sample(solver):
    """Leaves (B, 4), (B, 2, 3) coupled by a symmetric matrix, in blocks."""
    dense = jnp.asarray(matrix(10, 0.6, symmetric=True))
    v = jnp.asarray(np.random.default_rng(3).normal(size=(4, 10)))
    join = lambda y: jnp.concatenate([y["a"], y["b"].reshape(-1, 6)], 1)
    split = lambda x: {"a": x[:, :4], "b": x[:, 4:].reshape(-1, 2, 3)}

    @jax.jit
    def run(v):
        y, _, solution = solve_linear(
            lambda y: split(join(y) @ dense),
            split(v),
            solver=KRYLOV[solver](tol=1e-12, max_iter=100),
            batch_dims=1,
            differentiate=Problem.solve_detached,
        )
        return join(y), solution.status

    y, status = run(v)
    assert np.all(status == Status.CONVERGED)
    np.testing.assert_allclose(y, affine(dense, v), atol=1e-10)


def test_settings_are_checked():
    with pytest.raises(ValueError, match="restart must be >= 1"):
        jdeq.GMRES(restart=0)
    with pytest.raises(ValueError, match="GMRES cannot be unrolled"):
        jdeq.deq(lambda z: 0.5 * z + 1, jnp.zeros((2, 3)), solver="gmres", backward="unroll")


def adjoint_from(start, w, v, *, solver="gmres"):
    """y of a backward solve that starts at `start`, and what the solve says of itself."""
    infos = []
    backward = jdeq.IFT(solver=solver, tol=1e-10, callback=infos.append)

    def loss(start):
        f = lambda z: jnp.tanh(z @ w + 1)
        z, _ = jdeq.deq(
            f, jnp.zeros_like(v), solver="broyden", tol=1e-12, backward=backward, adjoint0=start
        )
        return jnp.sum(v * z)

    y = jax.jit(jax.grad(loss))(start)
    jax.effects_barrier()
    return y, infos[0]


@pytest.mark.parametrize("solver", ["gmres", "broyden", "anderson"])
def test_a_warm_start_of_the_adjoint_saves_products_and_changes_nothing(solver):
    w, v = jnp.asarray(matrix(16, 0.9)), jnp.asarray(np.random.default_rng(3).normal(size=(4, 16)))
    y, cold = adjoint_from(jnp.zeros_like(v), w, v, solver=solver)
    _, warm = adjoint_from(y, w, v, solver=solver)
    assert int(warm.nfe) <= 2 < int(cold.nfe)
    after_a_step = w + 1e-6 * jnp.sin(w)
    moved, near = adjoint_from(y, after_a_step, v, solver=solver)
    anew, far = adjoint_from(jnp.zeros_like(v), after_a_step, v, solver=solver)
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
    with pytest.raises(TypeError, match=r"adjoint0 must be float64\[2, 3\] as in z0, not"):
        solve(adjoint0=jnp.zeros((2, 1)))
    with pytest.raises(ValueError, match="adjoint0 does not go with forward_mode"):
        solve(adjoint0=jnp.zeros((2, 3)), backward=jdeq.IFT(forward_mode=True))
