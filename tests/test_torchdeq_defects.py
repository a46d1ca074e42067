"""What went wrong in TorchDEQ 0.1.0 and goes right here.

Each docstring says what TorchDEQ was observed to do; the expected values are closed forms, Newton's
method or dense linear algebra in numpy.
"""

import argparse
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jdeq
from jdeq import Status

from .problems import matrix

pytestmark = pytest.mark.slow

SOLVERS = ("fixed_point_iter", "anderson", "broyden")
each_solver = pytest.mark.parametrize("solver", SOLVERS)


def halving(z):
    """Fixed point 2; from 0 the plain iterates are 2 - 2^(1-k), with residuals 2^-k."""
    return 0.5 * z + 1


def solve(f, z0, **settings):
    return jax.jit(lambda z0: jdeq.deq(f, z0, **settings))(z0)


class Tanh:
    """tanh(z W^T + x) with its solution and derivatives by dense algebra, in numpy."""

    def __init__(self, size=8, radius=0.8, batch=3, seed=0):
        self.w = matrix(size, radius, seed)
        self.x = np.random.default_rng(seed + 1).normal(size=(batch, size))
        self.z0 = np.zeros_like(self.x)

    def f(self, w, z):
        return jnp.tanh(z @ w.T + self.x)

    def solution(self, w=None):
        w = self.w if w is None else w
        z = self.z0
        for _ in range(300):
            z = np.tanh(z @ w.T + self.x)
        for _ in range(5):
            fz, jacobian = self._linearise(w, z)
            step = np.linalg.solve(np.eye(len(w)) - jacobian, (fz - z)[..., None])
            z = z + step[..., 0]
        return z

    def gradient(self, w=None):
        """Of sum(z*^2) / 2 with respect to W, by the implicit function theorem."""
        w = self.w if w is None else w
        z = self.solution(w)
        fz, jacobian = self._linearise(w, z)
        adjoint = np.linalg.solve(np.eye(len(w)) - jacobian.transpose(0, 2, 1), z[..., None])
        return (adjoint[..., 0] * (1 - fz**2)).T @ z

    def _linearise(self, w, z):
        fz = np.tanh(z @ w.T + self.x)
        return fz, (1 - fz**2)[..., None] * w

    def loss(self, w, **settings):
        z, _ = jdeq.deq(functools.partial(self.f, w), self.z0, **settings)
        return jnp.sum(z**2) / 2


def relative_error(got, want):
    return np.linalg.norm(got - want) / np.linalg.norm(want)


@pytest.mark.parametrize("max_iter, want", [(0, 0.0), (1, 1.0), (2, 2.0)])
def test_anderson_with_one_iteration_is_a_plain_step(max_iter, want):
    """TorchDEQ: max_iter 0, 1, 2 call f twice and return z0 with a lowest residual of 1e8."""
    z, info = solve(halving, jnp.zeros((1, 1)), solver="anderson", max_iter=max_iter)
    np.testing.assert_allclose(z, want, atol=1e-12)  # the secant step is exact on an affine map
    assert info.nfe == max_iter + 1
    np.testing.assert_allclose(info.abs_residual, 1 - want / 2, atol=1e-12)


def test_anderson_with_m_1_is_damped_iteration():
    """TorchDEQ: m=1 raises an IndexError."""
    z, _ = solve(halving, jnp.zeros((1, 1)), solver=jdeq.Anderson(m=1, tau=0.5, max_iter=5))
    np.testing.assert_allclose(z, 2 - 0.75**4, rtol=1e-12)  # the first step is the plain one


def test_anderson_samples_states_from_the_first_iteration():
    """TorchDEQ: of indexing=[1, 2, 5, 8] only two states come back."""
    _, info = solve(
        halving, jnp.zeros((1, 1)), solver="anderson", indexing=[1, 2, 5], backward="jfb"
    )
    np.testing.assert_allclose(np.ravel(info.states), [1, 2, 2, 2], atol=1e-12)


def test_broyden_samples_the_iterations_asked_for():
    """TorchDEQ: indexing=[2, 5, 9] gives the states after 1, 4 and 8 steps."""
    p = Tanh(size=4, batch=1)
    solver = jdeq.Broyden(max_iter=9, return_final=True)
    _, info = solve(
        functools.partial(p.f, p.w), p.z0, solver=solver, indexing=[2, 5, 9], backward="jfb"
    )
    z, inverse, iterates = p.z0[0], -np.eye(4), [p.z0[0]]
    g = np.tanh(z @ p.w.T + p.x[0]) - z
    for _ in range(9):
        step = -inverse @ g
        z = z + step
        g_next = np.tanh(z @ p.w.T + p.x[0]) - z
        change, row = g_next - g, step @ inverse
        inverse = inverse + np.outer(step - inverse @ change, row) / (row @ change)
        g = g_next
        iterates.append(z)
    want = [iterates[i] for i in (2, 5, 9)]
    np.testing.assert_allclose(np.squeeze(info.states, 1), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("tau", [1.0, 0.1, 0.01])
def test_damping_does_not_loosen_the_tolerance(tau):
    """TorchDEQ: tol=1e-3 leaves a residual of 9.1e-3 with tau=0.1, and of 0.099 with tau=0.01."""
    solver = jdeq.FixedPointIter(tau=tau, tol=1e-3, stop_mode="abs", max_iter=3000)
    z, info = solve(halving, jnp.zeros((1, 1)), solver=solver)
    assert info.converged.all()
    assert abs(halving(z) - z) < 1e-3
    steps = np.ceil(np.log(1e-3) / np.log(1 - tau / 2))
    np.testing.assert_array_equal(info.steps, [steps])


def test_residuals_above_1e8_count():
    """TorchDEQ: residuals start from a sentinel of 1e8; whatever is above, z0 comes back."""
    z, info = solve(lambda z: 0.5 * z + 1e12, jnp.zeros((1, 1)), max_iter=9)
    np.testing.assert_allclose(z, 2e12 * (1 - 2.0**-9))
    np.testing.assert_allclose(info.abs_residual, 1e12 * 2.0**-9)
    np.testing.assert_array_equal(info.steps, [9])


@each_solver
def test_a_vector_is_one_problem_with_batch_dims_0(solver):
    """TorchDEQ: a vector is always 32 scalar problems; Broyden then ends in NaN."""
    p = Tanh(size=32, radius=0.6, batch=1)
    options = {"solver": solver, "tol": 1e-10, "max_iter": 100}
    f = lambda z: jnp.tanh(p.w @ z + p.x[0])
    z, info = solve(f, p.z0[0], batch_dims=0, **options)
    _, batch_of_one = solve(functools.partial(p.f, p.w), p.z0, **options)
    assert info.converged.shape == () and info.converged
    assert info.steps == batch_of_one.steps[0]
    np.testing.assert_allclose(z, p.solution()[0], rtol=0, atol=1e-8)


def test_a_vector_taken_for_scalars_does_not_end_in_nan():
    """TorchDEQ: Broyden returns NaN where coupled unknowns are counted as samples."""
    p = Tanh(size=32, radius=0.6, batch=1)
    f = lambda z: jnp.tanh(p.w @ z + p.x[0])
    z, info = solve(f, p.z0[0], solver="broyden", max_iter=60)
    assert np.isfinite(z).all() and np.isfinite(info.abs_residual).all()


def test_each_sample_stops_by_itself():
    """TorchDEQ: samples that need 7, 11, 21 and 31 steps are all run for 31."""
    gain = np.array([0.2, 0.5, 0.8, 0.95])
    f = lambda z: gain[:, None] * z + 1
    z, info = solve(f, jnp.zeros((4, 1)), tol=1e-4, stop_mode="abs", max_iter=200)
    steps = np.ceil(np.log(1e-4) / np.log(gain))  # the residual is gain^k
    np.testing.assert_array_equal(info.steps, steps)
    np.testing.assert_allclose(z[:, 0], (1 - gain**steps) / (1 - gain), rtol=1e-12)
    np.testing.assert_array_equal(np.sum(~np.isnan(info.abs_trace), -1), steps)
    np.testing.assert_array_equal(info.nfe, steps.max() + 1)


@each_solver
def test_a_broken_sample_does_not_keep_the_others_running(solver):
    """TorchDEQ: one NaN sample makes all the others run to the cap of 40."""
    broken = jnp.array([[True], [False], [False]])
    f = lambda z: jnp.where(broken, jnp.nan, halving(z))
    z, info = solve(f, jnp.zeros((3, 1)), solver=solver, tol=1e-6, max_iter=40)
    np.testing.assert_array_equal(
        info.status, [Status.NONFINITE, Status.CONVERGED, Status.CONVERGED]
    )
    np.testing.assert_allclose(z[:, 0], [0, 2, 2], atol=1e-5)
    assert info.nfe <= 21  # plain iteration: 2^-20 < 1e-6


@pytest.mark.parametrize("start", [[0.0], [0.0, 0.4]], ids=["B=1", "B=2"])
def test_the_tolerance_holds_beyond_30_iterations(start):
    """TorchDEQ: from Broyden's step 31 on, a batch of one stops at 1.9e-3 for a tol of 1e-3."""
    z0 = jnp.array(start)[:, None]
    solver = jdeq.Broyden(tau=0.05, tol=1e-3, stop_mode="abs", max_iter=300)
    z, info = solve(lambda z: 2 - 3 * z, z0, solver=solver)
    first = 0.8 * np.abs(2 - 4 * z0[:, 0])  # after one step; from then on 5 percent per step
    steps = 1 + np.ceil(np.log(1e-3 / first) / np.log(0.95))
    assert info.converged.all()
    np.testing.assert_array_equal(info.steps, steps)
    assert (steps > 100).all() and (np.abs(2 - 4 * z) < 1e-3).all()


@each_solver
def test_a_solve_that_fails_says_so(solver, capfd):
    """TorchDEQ: no flag, no warning; the residual 1.41 is one number among others."""
    f = lambda z: jnp.where(z < 0.5, 1.0, 0.0)  # jumps over the diagonal: no fixed point
    z0 = jnp.zeros((2, 2))
    _, info = solve(f, z0, solver=solver, max_iter=20, on_failure="warn")
    assert not info.converged.any() and (info.abs_residual > 0.1).all()
    jax.effects_barrier()
    assert "2 of 2 samples did not converge" in capfd.readouterr().err


@pytest.mark.parametrize("solver, best", [("fixed_point_iter", 7), ("anderson", 1), ("broyden", 1)])
def test_best_state_survives_a_blow_up(solver, best):
    """TorchDEQ: 0 * inf in the mixing of states turns a best residual of 3.4e-3 into NaN."""
    bad, target = jnp.array([[jnp.inf], [jnp.nan], [0.0]]), jnp.array([[1.0], [1.0], [0.5]])
    f = lambda z: jnp.where(z > 1.99, bad, 0.5 * z + target)
    z, info = solve(f, jnp.zeros((3, 1)), solver=solver)
    last_good = 2 - 2.0 ** (1 - best)  # from there Anderson and Broyden jump to 2
    np.testing.assert_allclose(z[:, 0], [last_good, last_good, 1], rtol=1e-11)
    np.testing.assert_allclose(info.abs_residual[:2], 2.0**-best, rtol=1e-12)
    np.testing.assert_array_equal(info.steps[:2], best)
    np.testing.assert_array_equal(
        info.status, [Status.NONFINITE, Status.NONFINITE, Status.CONVERGED]
    )


def test_an_overflow_leaves_the_best_state_and_the_other_samples():
    """TorchDEQ: the overflowing sample is returned as NaN, after a lowest residual of 494."""
    z, info = solve(lambda z: z**2, jnp.array([[0.5], [10.0]]), tol=1e-6, stop_mode="abs")
    np.testing.assert_allclose(z[:, 0], [0, 10], atol=1e-6)
    np.testing.assert_array_equal(info.status, [Status.CONVERGED, Status.NONFINITE])
    np.testing.assert_allclose(info.abs_residual[1], 90)


@pytest.fixture(scope="module")
def sixty_maps():
    return [Tanh(size=16, radius=0.9, batch=4, seed=10 * i) for i in range(60)]


@pytest.mark.parametrize("memory", [3, 5, 8, None])
def test_limited_memory_broyden_solves_all_of_60_random_maps(sixty_maps, memory):
    """TorchDEQ: 7, 9 and 4 of 60 maps fail with memory 3, 5 and 8, some with NaN."""
    solver = jdeq.Broyden(memory=memory, max_iter=200, tol=1e-8, stop_mode="abs")

    @jax.jit
    @jax.vmap
    def solve_map(w, x):
        return jdeq.deq(lambda z: jnp.tanh(z @ w.T + x), jnp.zeros_like(x), solver=solver)

    z, info = solve_map(np.stack([p.w for p in sixty_maps]), np.stack([p.x for p in sixty_maps]))
    assert np.sum(~np.all(info.converged, -1)) == 0
    want = [p.solution() for p in sixty_maps]
    np.testing.assert_allclose(z, want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("radius", [0.6, 0.95])
def test_anderson_is_faster_than_plain_iteration_down_to_1e_10(radius):
    """TorchDEQ: lam=1e-4 in absolute terms: 80 steps, where plain iteration needs 39."""
    p = Tanh(size=16, radius=radius, batch=4)
    run = lambda solver: solve(
        functools.partial(p.f, p.w), p.z0, solver=solver, tol=1e-10, stop_mode="abs", max_iter=300
    )
    _, plain = run("fixed_point_iter")
    z, mixed = run("anderson")
    assert mixed.converged.all()
    assert (np.asarray(mixed.steps) < 0.75 * np.asarray(plain.steps)).all()
    np.testing.assert_allclose(z, p.solution(), rtol=0, atol=1e-8)


def test_anderson_does_not_depend_on_the_units_of_z():
    """TorchDEQ: 89, 87, 65 or 39 steps for one problem in units of 1e-4, 1e-2, 1 or 100."""
    p = Tanh(size=16, radius=0.6, batch=4)

    @jax.jit
    @jax.vmap
    def solve_in(unit):
        f = lambda z: unit * p.f(p.w, z / unit)
        return jdeq.deq(f, unit * p.z0, solver="anderson", tol=1e-6)

    units = jnp.array([1e-4, 1e-2, 1, 100])
    z, info = solve_in(units)
    assert info.converged.all()
    np.testing.assert_array_equal(info.steps, np.tile(info.steps[2], (4, 1)))
    np.testing.assert_allclose(z / units[:, None, None], np.tile(z[2], (4, 1, 1)), atol=1e-5)


@pytest.mark.parametrize("lam", [0.0, None])
def test_a_sample_at_its_solution_does_not_disturb_anderson(lam):
    """TorchDEQ: with lam=0 a singular matrix error ends the solve of the whole batch."""
    w = matrix(4, 0.5)
    z0 = jnp.array([[0.0] * 4, [1.0] * 4])
    solver = jdeq.Anderson(lam=lam, tol=1e-9, stop_mode="abs")
    z, info = solve(lambda z: jnp.tanh(z @ w.T), z0, solver=solver)
    np.testing.assert_allclose(z, 0, atol=1e-8)
    assert info.steps[0] == 0 and info.converged.all()


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_anderson_runs_in_half_precision(dtype):
    """TorchDEQ: NotImplementedError, no LU factorisation of such matrices on the CPU."""
    z, info = solve(halving, jnp.zeros((2, 3), dtype), solver="anderson")
    assert z.dtype == dtype and info.converged.all()
    np.testing.assert_allclose(z.astype(jnp.float32), 2, rtol=0.05)


@pytest.mark.parametrize("sampling", [{"indexing": [3]}, {"n_states": 3}], ids=str)
@pytest.mark.parametrize("solver", ["fixed_point_iter", "broyden"])
def test_the_last_state_is_the_solution_however_early_it_was_found(solver, sampling):
    """TorchDEQ: the state of step 3 comes back (error 0.05), and its gradient is 36 percent off."""
    p = Tanh()

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(w):
        _, info = jdeq.deq(
            functools.partial(p.f, w), p.z0, solver=solver, max_iter=150, tol=1e-9, **sampling
        )
        return jnp.sum(info.states[-1] ** 2) / 2, info

    (_, info), gradient = loss(p.w)
    assert len(info.states) == (3 if "n_states" in sampling else 2)
    assert info.converged.all() and info.steps.max() < 150
    np.testing.assert_allclose(info.states[-1], p.solution(), rtol=0, atol=1e-7)
    assert relative_error(gradient, p.gradient()) < 1e-6


@each_solver
def test_the_gradient_scales_with_the_loss(solver):
    """TorchDEQ: an absolute b_tol of 1e-6 leaves 11 percent error at a loss scale of 1e-6."""
    p = Tanh()
    backward = jdeq.IFT(solver, tol=1e-6, max_iter=200)

    @jax.jit
    @jax.vmap
    def gradient(scale):
        loss = lambda w: scale * p.loss(w, solver="broyden", backward=backward)
        return jax.grad(loss)(p.w) / scale

    for g in gradient(jnp.array([1.0, 1e-4, 1e-8, 1e-100])):
        assert relative_error(g, p.gradient()) < 1e-5


class Cell(nnx.Module):
    def __init__(self, w):
        self.linear = nnx.Linear(*w.shape, param_dtype=w.dtype, rngs=nnx.Rngs(0))
        self.linear.kernel.set_value(jnp.asarray(w.T))

    def __call__(self, z, x):
        return jnp.tanh(self.linear(z) + x)


def layer(p):
    config = jdeq.DEQConfig(ift=True, f_solver="broyden", f_tol=1e-9, b_tol=1e-9)
    return jdeq.nn.DEQ(Cell(p.w), config)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_gradients_flow_in_both_modes(mode):
    """TorchDEQ: in eval mode the output is detached without notice (issues 4 and 8)."""
    p = Tanh()
    model = layer(p)
    getattr(model, mode)()
    loss = lambda m: jnp.sum(m(jnp.asarray(p.x))[0] ** 2) / 2
    grads = nnx.jit(nnx.grad(loss))(model)
    assert relative_error(grads["cell"]["linear"]["kernel"][...].T, p.gradient()) < 1e-6


@pytest.mark.parametrize("order", [2, 3])
def test_higher_derivatives(order):
    """TorchDEQ: second order runs without an error and is 95 percent off."""

    def root(a):  # z = (z + a / z) / 2
        return jdeq.deq(lambda z: 0.5 * (z + a / z), jnp.ones(()), batch_dims=0)[0]

    derivative = root
    for _ in range(order):
        derivative = jax.grad(derivative)
    a = 2.25  # the derivatives of sqrt(a)
    want = {2: -0.25 * a**-1.5, 3: 0.375 * a**-2.5}[order]
    np.testing.assert_allclose(jax.jit(derivative)(a), want, rtol=1e-6)


def test_hessian_vector_product():
    """TorchDEQ: the relative error against finite differences is 0.95."""
    p = Tanh(size=5)
    v = np.random.default_rng(7).normal(size=p.w.shape)
    gradient = jax.grad(functools.partial(p.loss, solver="broyden"))
    got = jax.jit(jax.grad(lambda w: jnp.vdot(gradient(w), v)))(p.w)
    h = 1e-5
    want = (p.gradient(p.w + h * v) - p.gradient(p.w - h * v)) / (2 * h)
    assert relative_error(got, want) < 1e-6


def test_a_gradient_can_be_pulled_back_twice():
    """TorchDEQ with hook_ift: the second backward gives the one-step gradient, 61 percent off."""
    p = Tanh()
    value, pull = jax.vjp(jax.jit(functools.partial(p.loss, solver="broyden")), p.w)
    first, second = pull(jnp.ones_like(value)), pull(jnp.ones_like(value))
    np.testing.assert_array_equal(first[0], second[0])
    assert relative_error(first[0], p.gradient()) < 1e-6


def test_a_layer_can_be_called_twice_before_its_gradient():
    """TorchDEQ with hook_ift: recursion without end."""
    one, two = Tanh(seed=0), Tanh(seed=0)
    two.x = -0.5 * one.x

    def loss(m):
        return sum(jnp.sum(m(jnp.asarray(p.x))[0] ** 2) / 2 for p in (one, two))

    grads = nnx.jit(nnx.grad(loss))(layer(one))
    got = grads["cell"]["linear"]["kernel"][...].T
    assert relative_error(got, one.gradient() + two.gradient()) < 1e-6


@pytest.mark.parametrize("solver", ["simple_fixed_point_iter", *SOLVERS])
def test_no_iterations_and_an_unrolled_gradient(solver):
    """TorchDEQ: simple_fixed_point_iter with core="indexing" returns an empty list."""

    def last(a):
        backward = jdeq.PhantomGrad(12)
        z, info = jdeq.deq(
            lambda z: 0.5 * z + a, jnp.zeros(1), solver=solver, max_iter=0, backward=backward
        )
        return z.sum(), info

    (value, info), slope = jax.jit(jax.value_and_grad(last, has_aux=True))(3.0)
    np.testing.assert_allclose([value, slope], [6 - 6 * 2.0**-12, 2 - 2 * 2.0**-12], rtol=1e-12)
    np.testing.assert_allclose(info.abs_residual, 3 * 2.0**-12, rtol=1e-9)


def test_simple_fixed_point_iter_takes_plain_functions():
    """TorchDEQ: its own example fails, f has to accept tau."""
    z, _ = solve(jnp.cos, jnp.zeros((1,)), solver="simple_fixed_point_iter", max_iter=100)
    np.testing.assert_allclose(z, 0.7390851332151607, rtol=1e-12)


def test_simple_fixed_point_iter_as_backward_solver_and_with_two_variables():
    """TorchDEQ: a TypeError as b_solver, an AttributeError with two variables and ift."""
    simple = jdeq.SimpleFixedPointIter(max_iter=60)

    def total(a):  # u = v / 2 + a, v = u / 2: u = 4a/3, v = 2a/3
        f = lambda z: (0.5 * z[1] + a, 0.5 * z[0])
        z0 = jnp.zeros(1), jnp.zeros(1)
        u, v = jdeq.deq(f, z0, solver=simple, backward=jdeq.IFT(simple))[0]
        return (u + v).sum()

    value, slope = jax.jit(jax.value_and_grad(total))(3.0)
    np.testing.assert_allclose([value, slope], [6.0, 2.0], rtol=1e-12)


@pytest.mark.parametrize(
    "backward",
    [*map(jdeq.IFT, SOLVERS), "phantom", "jfb", "unroll"],
    ids=[*SOLVERS, "phantom", "jfb", "unroll"],
)
def test_f_may_ignore_z(backward):
    """TorchDEQ: the backward pass raises, a tensor was not used in the graph."""

    def total(a):
        f = lambda z: jnp.full_like(z, jnp.sin(a))
        return jdeq.deq(f, jnp.zeros((2, 3)), backward=backward, max_iter=5)[0].sum()

    value, slope = jax.jit(jax.value_and_grad(total))(0.3)
    np.testing.assert_allclose([value, slope], [6 * np.sin(0.3), 6 * np.cos(0.3)], rtol=1e-12)


def test_misspelt_options_raise():
    """TorchDEQ: f_max_iters=3 is accepted, and f_max_iter stays 40."""
    with pytest.raises(TypeError, match="f_max_iters"):
        jdeq.DEQConfig(f_max_iters=3)  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match="f_max_iters"):
        jdeq.DEQConfig.from_dict({"f_max_iters": 3})
    with pytest.raises(TypeError, match="max_iters.*did you mean 'max_iter'"):
        jdeq.deq(halving, jnp.zeros(1), max_iters=3)


def test_the_callers_options_are_left_alone():
    """TorchDEQ: get_deq(options, f_max_iter=7) writes into the caller's dict."""
    options = {"f_solver": "anderson", "indexing": [3, 6]}
    config = jdeq.DEQConfig.from_dict(options)
    assert options == {"f_solver": "anderson", "indexing": [3, 6]}
    assert config.indexing == (3, 6)
    namespace = argparse.Namespace(f_max_iter=7, lr=0.1)
    assert jdeq.DEQConfig.from_args(namespace).f_max_iter == 7
    assert vars(namespace) == {"f_max_iter": 7, "lr": 0.1}


def test_tol_and_stop_mode_reach_the_solver():
    """TorchDEQ: tol and stop_mode among the solver's options raise a TypeError."""
    config = jdeq.DEQConfig(f_tol=1e-2, f_stop_mode="abs", b_tol=1e-3, b_stop_mode="abs", ift=True)
    assert config.solver() == jdeq.FixedPointIter(max_iter=40, tol=1e-2, stop_mode="abs")
    want = jdeq.FixedPointIter(max_iter=40, tol=1e-3, stop_mode="abs")
    backward = config.backward()
    assert isinstance(backward, jdeq.IFT) and backward.backward_solver == want
    _, info = solve(halving, jnp.zeros((1, 1)), tol=1e-2, stop_mode="abs")
    np.testing.assert_array_equal(info.steps, [7])  # 2^-7 < 1e-2


@pytest.mark.parametrize(
    "solver, options, want",
    [
        ("anderson", {"m": 1}, 2 - 2.0**-4),
        ("anderson", {"m": 1, "tau": 0.5}, 2 - 0.75**4),
        ("broyden", {"memory": 1}, 2 - 2.0**-4),
        ("fixed_point_iter", {"tau": 0.5}, 2 - 2 * 0.75**5),
    ],
)
def test_solver_options_reach_the_solver(solver, options, want):
    """TorchDEQ: m, lam, tau and memory given to get_deq are ignored."""
    z, _ = solve(halving, jnp.zeros((1, 1)), solver=solver, max_iter=5, **options)
    np.testing.assert_allclose(z, want, rtol=1e-12)


def test_the_backward_solver_takes_options_too():
    """TorchDEQ: none but max_iter, tol and stop_mode can be given to b_solver."""
    backward = jdeq.IFT(jdeq.FixedPointIter(tau=0.5, max_iter=3, tol=1e-12))

    def solution(a):
        return jdeq.deq(lambda z: 0.5 * z + a, jnp.zeros((1, 1)), backward=backward)[0].sum()

    slope = jax.jit(jax.grad(solution))(1.0)  # of 2a, after three damped steps from 1
    np.testing.assert_allclose(slope, 2 - 0.75**3, rtol=1e-12)


def normalised(kernel, **options):
    linear = nnx.Linear(*kernel.shape, param_dtype=kernel.dtype, rngs=nnx.Rngs(0))
    linear.kernel.set_value(kernel)
    return jdeq.nn.WeightNorm(linear, **options)


@pytest.mark.parametrize("learn_scale", [True, False])
def test_a_zero_channel_stays_finite(learn_scale):
    """TorchDEQ: the channel becomes NaN."""
    norm = normalised(jnp.array([[0.0, 3.0], [0.0, 4.0]]), learn_scale=learn_scale)
    want = [[0, 3], [0, 4]] if learn_scale else [[0, 0.6], [0, 0.8]]
    grads = nnx.jit(nnx.grad(lambda n: jnp.sum(n.fold().kernel[...] ** 3)))(norm)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    np.testing.assert_allclose(norm.fold().kernel[...], want, rtol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_the_scale_has_the_dtype_of_the_kernel(dtype):
    """TorchDEQ: g is made in the default dtype and changes that of the weight."""
    norm = normalised(jnp.ones((2, 3), dtype))
    (scale,) = norm.scales.values()
    assert scale[...].dtype == norm.fold().kernel[...].dtype == dtype


def test_changed_weights_count_at_once():
    """TorchDEQ: until a reset the old weight is used, the output is off by 0.95."""
    norm = normalised(jnp.array([[3.0], [4.0]]), learn_scale=False, target_norm=2.0)
    x = jnp.array([[1.0, 0.0]])
    np.testing.assert_allclose(norm(x), [[1.2]], rtol=1e-6)
    norm.module.kernel.set_value(jnp.array([[4.0], [-3.0]]))
    np.testing.assert_allclose(norm(x), [[1.6]], rtol=1e-6)


def test_normalisation_leaves_the_raw_weights_alone():
    """TorchDEQ: a second backward without a reset raises."""
    kernel = jnp.array([[3.0], [4.0]])
    norm = normalised(kernel, learn_scale=False)
    gradient = nnx.grad(lambda n: n(jnp.array([[1.0, 0.0]])).sum())
    want = [[16 / 125], [-12 / 125]]  # (1 - w w^T / |w|^2) e_1 / |w|
    for _ in range(2):
        np.testing.assert_array_equal(norm.module.kernel[...], kernel)
        got = gradient(norm)["module"]["kernel"][...]
        np.testing.assert_allclose(got, want, rtol=1e-12)
