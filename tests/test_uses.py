"""Every way to use a solve, crossed with the solvers, against the closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jdeq

from .marks import EXHAUSTIVE
from .problems import affine, matrix

SOLVERS = {
    "fixed_point_iter": jdeq.FixedPointIter(max_iter=200, tol=1e-12),
    "simple_fixed_point_iter": jdeq.SimpleFixedPointIter(max_iter=60),
    "anderson": jdeq.Anderson(max_iter=100, tol=1e-12),
    "broyden": jdeq.Broyden(max_iter=40, tol=1e-12),
}
solvers = pytest.mark.parametrize(  # the quick part of the tests goes through one of them
    "solver",
    [s if s == "broyden" else pytest.param(s, marks=pytest.mark.slow) for s in SOLVERS],
)
W = jnp.asarray(matrix(3, 0.5))
B = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)))
PERMUTATION = jnp.array([2, 0, 1])
KEYS = jax.random.split(jax.random.key(0), 4)


def solve_with(solver):
    """(w, b) -> z*, for one system b (3,) or a batch of them (B, 3)."""

    def solve(w, b, f=lambda z, w, b: z @ w + b):
        z, _ = jdeq.deq(
            lambda z: f(z, w, b),
            jnp.zeros_like(b),
            solver=solver,
            backward=jdeq.IFT(solver=solver),
            batch_dims=b.ndim - 1,
        )
        return z

    return solve


def exact(w, b, f=None):
    return affine(w, b)


def integers_closed_over(s):
    shuffled = lambda z, w, b: z[..., PERMUTATION] @ w[PERMUTATION] + b
    return jax.grad(lambda w: jnp.sum(s(w, B, f=shuffled) ** 2))(W)


def key_closed_over(s):
    def loss(w, key):
        noise = lambda z, w, b: z @ w + b + jax.random.normal(key, b.shape, b.dtype)
        b = B[0] + (jax.random.normal(key, (3,), jnp.float64) if s is exact else 0)
        return jnp.sum(s(w, b, f=noise) ** 2)

    return jax.grad(lambda w: jnp.sum(jax.vmap(lambda key: loss(w, key))(KEYS)))(W)


def integers_vmapped(s):
    def loss(w, i):
        one_hot = jnp.eye(3)[i]
        return jnp.sum(s(w, one_hot, f=lambda z, w, b: z @ w + jnp.eye(3)[i]) ** 2)

    return jax.grad(lambda w: jnp.sum(jax.vmap(lambda i: loss(w, i))(PERMUTATION)))(W)


def scanned(s):
    def loss(w):
        return jax.lax.scan(lambda c, b: (c + jnp.sum(s(w, b) ** 2), None), 0.0, B)[0]

    return jax.jit(jax.grad(loss))(W)


def chained(s):
    return jax.grad(lambda w: jnp.sum(s(w, s(w, B)) ** 2))(W)


USES = {
    "value": lambda s: s(W, B),
    "jit": lambda s: jax.jit(s)(W, B),
    "jacobians": lambda s: jax.jacrev(s, (0, 1))(W, B[0]),
    "grad of jit": lambda s: jax.grad(jax.jit(lambda w, b: jnp.sum(s(w, b) ** 2)), (0, 1))(W, B),
    "vmap": lambda s: jax.vmap(s, (None, 0))(W, B),
    "nested vmap": lambda s: jax.vmap(jax.vmap(s, (None, 0)), (0, None))(
        jnp.stack([W, 0.5 * W]), B
    ),
    "vmap of grad": lambda s: jax.vmap(jax.grad(lambda b: jnp.sum(s(W, b) ** 2)))(B),
    "grad of vmap, closed over": lambda s: jax.grad(
        lambda w: jnp.sum(jax.vmap(lambda b: s(w, b))(B) ** 2)
    )(W),
    "vmap of batches": lambda s: jax.vmap(lambda c: s(W, c * B))(jnp.array([1.0, -2.0])),
    "scan": scanned,
    "checkpoint": lambda s: jax.grad(lambda w: jnp.sum(jax.checkpoint(lambda w: s(w, B))(w) ** 2))(
        W
    ),
    "second order": lambda s: jax.jacrev(jax.grad(lambda w: jnp.sum(s(w, B) ** 2)))(W),
    "second order of vmap": lambda s: jax.jacrev(
        jax.grad(lambda w: jnp.sum(jax.vmap(lambda b: s(w, b))(B) ** 2))
    )(W),
    "solve of a solve": chained,
    "integers": integers_closed_over,
    "vmapped integers": integers_vmapped,
    "vmapped keys": key_closed_over,
}


ALL_SOLVERS = ("jacobians", "second order of vmap", "vmapped integers")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "use"),
    [
        pytest.param(s, use, marks=() if s == "broyden" or use in ALL_SOLVERS else EXHAUSTIVE)
        for s in SOLVERS
        for use in USES
    ],
)
def test_agrees_with_the_closed_form(solver, use):
    got = jax.jit(USES[use], static_argnums=0)(solve_with(SOLVERS[solver]))
    want = USES[use](exact)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=0, atol=1e-9), got, want)


@solvers
def test_eagerly(solver):
    loss = lambda w: jnp.sum(solve_with(SOLVERS[solver])(w, B) ** 2)
    want = jax.grad(lambda w: jnp.sum(affine(w, B) ** 2))(W)
    np.testing.assert_allclose(jax.grad(loss)(W), want, atol=1e-9)


@pytest.mark.slow
@solvers
def test_gradient_of_a_module_that_is_closed_over(solver):
    s = solve_with(SOLVERS[solver])
    linear = nnx.Linear(3, 3, use_bias=False, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    linear.kernel.set_value(W)

    def loss(linear):
        return jnp.sum(s(None, B, f=lambda z, w, b: linear(z) + b) ** 2)

    want = jax.grad(lambda w: jnp.sum(affine(w, B) ** 2))(W)
    for gradient in (nnx.grad(loss), nnx.jit(nnx.grad(loss))):
        np.testing.assert_allclose(gradient(linear)["kernel"][...], want, atol=1e-9)


@solvers
def test_inside_shard_map_each_device_stops_on_its_own(solver):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    solve = solve_with(SOLVERS[solver])
    spec = jax.P("data")
    per_device = jax.shard_map(solve, mesh=mesh, in_specs=(jax.P(), spec), out_specs=spec)
    loss = lambda s: lambda w, b: jnp.sum(s(w, b) ** 2)
    np.testing.assert_allclose(jax.jit(per_device)(W, B), affine(W, B), atol=1e-9)
    got = jax.jit(jax.grad(loss(per_device), (0, 1)))(W, B)
    want = jax.grad(loss(affine), (0, 1))(W, B)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, atol=1e-9), got, want)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "mode"),
    [
        pytest.param(s, mode, marks=() if s in tried else EXHAUSTIVE)
        for mode, tried in {"ift": ("broyden",), "unroll": ("fixed_point_iter", "broyden")}.items()
        for s in SOLVERS
    ],
)
def test_forward_mode(solver, mode):
    solver = SOLVERS[solver]
    backward = jdeq.Unroll() if mode == "unroll" else jdeq.IFT(solver=solver, forward_mode=True)

    def solve(w):
        f = lambda z: z @ w + B
        return jdeq.deq(f, jnp.zeros_like(B), solver=solver, backward=backward)[0]

    loss = lambda s: lambda w: jnp.sum(s(w) ** 2)
    closed = lambda w: affine(w, B)
    check = lambda g, w: np.testing.assert_allclose(g, w, atol=1e-8)
    check(jax.jit(jax.jacfwd(solve))(W), jax.jacfwd(closed)(W))
    check(jax.jit(jax.hessian(loss(solve)))(W), jax.hessian(loss(closed))(W))
    check(jax.jit(jax.grad(loss(solve)))(W), jax.grad(loss(closed))(W))
