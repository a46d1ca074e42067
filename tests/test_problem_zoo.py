"""Implicit gradients on the problems of many kinds that the solvers are compared on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jdeq
from benchmarks.problems import problems
from tests.marks import EXHAUSTIVE

PROBLEMS = {p.name: p for p in problems() if not p.name.startswith("affine")}
SOLVERS = {
    "gmres": jdeq.GMRES(max_iter=400, restart=400, tol=1e-13),
    "bicgstab": jdeq.BiCGStab(max_iter=600, tol=1e-13),
    "broyden": jdeq.Broyden(max_iter=300, tol=1e-13),
}
EACH_SOLVER = ("softmax attention block", "cube root, 2 / z^2")


def solution(f, z0):
    """z* as a vector, by Newton's method with dense Jacobians."""
    v, unravel = ravel_pytree(z0)
    flat = jax.jit(lambda v: ravel_pytree(f(unravel(v)))[0])
    jacobian = jax.jit(jax.jacfwd(flat))
    start = jdeq.deq(f, z0, solver=jdeq.Newton(max_iter=100, tol=1e-8))[0]
    v = ravel_pytree(start)[0]
    for _ in range(4):
        v = v + jnp.linalg.solve(jnp.eye(v.size) - jacobian(v), flat(v) - v)
    np.testing.assert_allclose(flat(v), v, rtol=0, atol=1e-11 * float(np.linalg.norm(v)))
    return v, unravel, np.asarray(jacobian(v))


def implicit_gradient(f, unravel, v, weights, solver):
    """Of weights . z with respect to a shift of f, at the solution v."""

    def loss(shift):
        shifted = lambda z: jax.tree.map(jnp.add, f(z), unravel(shift))
        here, backward = jdeq.FixedPointIter(max_iter=0), jdeq.IFT(solver)
        z, _ = jdeq.deq(shifted, unravel(v), solver=here, backward=backward)
        return weights @ ravel_pytree(z)[0]

    return jax.jit(jax.grad(loss))(jnp.zeros_like(v))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "label"),
    [
        pytest.param(
            name, label, marks=() if label == "gmres" or name in EACH_SOLVER else EXHAUSTIVE
        )
        for name in PROBLEMS
        for label in SOLVERS
    ],
)
def test_implicit_gradients_are_those_of_the_dense_solve(name, label):
    f, z0 = PROBLEMS[name].f, PROBLEMS[name].z0
    v, unravel, jacobian = solution(f, z0)
    weights = jnp.asarray(np.random.default_rng(0).normal(size=v.size))
    want = np.linalg.solve(np.eye(v.size) - jacobian.T, weights)
    got = implicit_gradient(f, unravel, v, weights, SOLVERS[label])
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-8 * np.abs(want).max())
