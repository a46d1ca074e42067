"""Settings that are arrays are values: no new program, one per lane, reached by gradients."""

import copy
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jdeq
from tests.marks import some_of

from .problems import matrix
from .test_programs import compilations

W = jnp.asarray(matrix(6, 0.7))
X = jnp.asarray(np.random.default_rng(0).normal(size=(3, 6)))
BACKWARDS = {
    "ift": "ift",
    "both modes": jdeq.IFT(forward_mode=True),
    "phantom": jdeq.PhantomGrad(steps=60),
    "jfb": "jfb",
    "unroll": "unroll",
    "shine": jdeq.SHINE(refine=60),
}
SOLVERS = {
    "fixed_point_iter": lambda tol, tau: jdeq.FixedPointIter(tol=tol, tau=tau, max_iter=80),
    "simple_fixed_point_iter": lambda tol, tau: jdeq.SimpleFixedPointIter(
        tol=tol, tau=tau, max_iter=80
    ),
    "anderson": lambda tol, tau: jdeq.Anderson(tol=tol, tau=tau, lam=1e-12 * tau),
    "anderson type I": lambda tol, tau: jdeq.Anderson(tol=tol, tau=tau, kind=1),
    "broyden": lambda tol, tau: jdeq.Broyden(tol=tol, tau=tau),
    "broyden with a search": lambda tol, tau: jdeq.Broyden(tol=tol, tau=tau, line_search=True),
    "newton": lambda tol, tau: jdeq.Newton(tol=tol),
    "fallback": lambda tol, tau: jdeq.Fallback(
        (jdeq.FixedPointIter(tol=tol, tau=tau, max_iter=5), jdeq.Broyden(tol=tol, tau=tau)), tol=tol
    ),
    "fallback by name": lambda tol, tau: jdeq.Fallback(("anderson", "broyden"), tol=tol),
}
each_solver = pytest.mark.parametrize(
    "make", some_of(SOLVERS, ["fixed_point_iter", "anderson", "broyden with a search", "newton"])
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preconditioned(jdeq.IterativeSolver):
    """`z <- z + (f(z) - z) P`, with a matrix of any size and a bias held in a dict."""

    weights: dict

    def step(self, space, k, z, fz, state):
        move = space.sub(fz, z) @ self.weights["p"] + self.weights["bias"]
        return space.add(z, move), state


def solve(solver: Any, x=X, w=W, backward: Any = "ift", **more):
    f = lambda z: jnp.tanh(z @ w + x)
    return jdeq.deq(f, jnp.zeros_like(x), solver=solver, backward=backward, **more)


@pytest.mark.slow
@each_solver
def test_arrays_do_what_numbers_do(make):
    """Under jit, one program for all values; rounding may differ as the programs do."""
    traces = []
    run = jax.jit(lambda tol, tau: traces.append(tol) or solve(make(tol, tau)))
    for tol, tau in ((1e-3, 0.9), (1e-9, 0.7)):
        z, info = run(tol, tau)
        z_want, want = solve(make(tol, tau))
        np.testing.assert_array_equal(info.steps, want.steps)
        np.testing.assert_array_equal(info.status, want.status)
        np.testing.assert_allclose(z, z_want, rtol=1e-9, atol=1e-12)
    assert len(traces) == 1


@pytest.mark.slow
@each_solver
def test_a_setting_per_lane(make):
    tols, taus = jnp.asarray([1e-2, 1e-5, 1e-9]), jnp.asarray([1.0, 0.8, 0.9])
    z, info = jax.vmap(lambda tol, tau: solve(make(tol, tau)))(tols, taus)
    for i in range(3):
        z_want, want = solve(make(tols[i], taus[i]))
        np.testing.assert_array_equal(info.steps[i], want.steps)
        np.testing.assert_array_equal(info.status[i], want.status)
        np.testing.assert_array_equal(info.nfe[i], want.nfe)
        np.testing.assert_allclose(z[i], z_want, rtol=1e-9, atol=1e-12)


def test_a_solver_is_a_pytree():
    """Passed through jit, vmap and grad like any other argument."""
    solvers = jax.vmap(lambda tau: jdeq.FixedPointIter(tau=tau, max_iter=200))(
        jnp.asarray([0.5, 1.0])
    )
    steps = jax.jit(jax.vmap(lambda s: solve(s)[1].steps.max()))(solvers)
    assert steps[0] > steps[1]
    assert not jax.tree.leaves(jdeq.Anderson()) and isinstance(hash(jdeq.Anderson()), int)
    back = jax.tree.map(lambda x: x + 0, solvers)
    assert back.max_iter == 200 and back.stop_mode == "rel"
    copied = copy.deepcopy(back)
    np.testing.assert_array_equal(jax.tree.leaves(copied), jax.tree.leaves(back))


@pytest.mark.slow
@pytest.mark.parametrize("backward", some_of(BACKWARDS, ["ift", "both modes", "unroll", "shine"]))
def test_the_gradient_of_the_rest(backward):
    """By every backward; that of an implicit one does not depend on how z* was found."""
    weights = {"p": 0.9 * jnp.eye(6), "bias": jnp.zeros((1, 6))}

    def loss(w, weights, tau):
        solver = Preconditioned(weights=weights, max_iter=120, tol=1e-12)
        if isinstance(backward, jdeq.SHINE):
            solver = jdeq.Broyden(tau=tau, tol=1e-12, max_iter=120)
        return jnp.sum(solve(solver, w=w, backward=backward)[0] ** 2)

    def reference(w):
        z = solve("newton", tol=1e-13)[0]
        adjoint = lambda z, x: (
            jnp.linalg.solve(jnp.eye(6) - (1 - z[:, None] ** 2) * w.T, jnp.eye(6)).T @ (2 * z)
        )
        y = jax.vmap(adjoint)(z, X) * (1 - z**2)
        return z.T @ y

    tau = jnp.asarray(0.8)
    grads = jax.jit(jax.grad(loss, (0, 1, 2)))(W, weights, tau)
    if backward != "jfb":  # which leaves the inverse out
        np.testing.assert_allclose(grads[0], reference(W), rtol=1e-6, atol=1e-9)
    assert all(jnp.isfinite(g).all() for g in jax.tree.leaves(grads))
    if backward != "unroll":
        assert not any(jnp.any(g) for g in jax.tree.leaves(grads[1:]))
    batched = jax.vmap(jax.grad(loss), in_axes=(None, 0, None))(
        W, jax.tree.map(lambda x: jnp.stack([x, x]), weights), tau
    )
    np.testing.assert_allclose(batched, jnp.stack([grads[0]] * 2), rtol=1e-8, atol=1e-11)


@pytest.mark.slow
def test_unrolling_reaches_the_settings():
    """Against finite differences, two iterations in."""

    def value(tau, bias):
        weights = {"p": tau * jnp.eye(6), "bias": bias}
        solver = Preconditioned(weights=weights, max_iter=2, tol=1e-14)
        return jnp.sum(jnp.sin(solve(solver, backward="unroll")[0]))

    args = jnp.asarray(0.6), 0.01 * jnp.ones((1, 6))
    check_grads(value, args, order=1, modes=["rev", "fwd"], rtol=1e-6)
    damped = lambda tau: jnp.sum(
        solve(jdeq.FixedPointIter(tau=tau, max_iter=3, tol=1e-14), backward="unroll")[0]
    )
    check_grads(damped, (jnp.asarray(0.6),), order=2, modes=["rev"], rtol=1e-5)


@pytest.mark.slow
def test_a_damping_of_phantom_steps_is_differentiated():
    steps = lambda tau: jnp.sum(
        solve("fixed_point_iter", backward=jdeq.PhantomGrad(3, tau=tau), max_iter=2)[0] ** 2
    )
    check_grads(steps, (jnp.asarray(0.7),), order=1, modes=["rev", "fwd"], rtol=1e-6)


@pytest.mark.slow
def test_a_backward_tolerance_per_lane():
    def error(tol):
        backward = jdeq.IFT("fixed_point_iter", tol=tol, max_iter=200)
        return jax.grad(lambda w: solve("newton", w=w, backward=backward, tol=1e-13)[0].sum())(W)

    exact = error(1e-13)
    loose, tight = jax.vmap(error)(jnp.asarray([1e-1, 1e-10]))
    assert jnp.linalg.norm(tight - exact) < 1e-7 < jnp.linalg.norm(loose - exact)


def test_another_value_compiles_nothing_outside_jit():
    use = lambda tol: solve(jdeq.Anderson(tol=jnp.asarray(tol)))[0]
    use(1e-3)
    with compilations() as seen:
        use(1e-6)
    assert not seen


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jdeq.FixedPointIter(tau=jnp.asarray(3.0)), "tau must be in"),
        (lambda: jdeq.Broyden(tol=jnp.asarray(-1.0)), "tol must be >= 0"),
        (lambda: jdeq.Anderson(tol=jnp.ones(3)), "tol must be one number"),
        (lambda: jdeq.Anderson(lam=jnp.asarray(-1.0)), "lam must be >= 0"),
    ],
)
def test_values_that_are_known_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()
