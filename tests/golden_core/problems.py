"""The maps whose solutions and gradients TorchDEQ 0.1.0 computed, and our gradients of its loss."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jdeq

from ..golden import load


class Problem(NamedTuple):
    f: Callable  # f(params, z)
    params: dict
    z0: Any
    newton: Any  # flat, where there is one
    golden: dict


def network(p, z):
    return jnp.tanh(z @ p["W"].T + p["x"] @ p["U"].T + p["b"][None])


def coupled(p, z):
    z1, z2 = z
    z1_next = jnp.tanh(z1 @ p["A"].T + z2.mean(1) @ p["C"].T + p["x1"])
    return z1_next, jnp.tanh(z2 @ p["M"].T + (z1 @ p["E"].T).reshape(z2.shape) + p["x2"])


def with_gain(p, z):
    return jnp.tanh(p["gain"] * (z @ p["W"].T) + p["x"])


def problem(name):
    golden = load(name)
    if "multi" in name:
        z0 = golden["z1_0"], golden["z2_0"]
        return Problem(
            coupled, pick(golden, "A C M E x1 x2"), z0, golden["zstar_newton_flat"], golden
        )
    f, names = (with_gain, "W gain x") if "gain" in golden else (network, "W U b x")
    return Problem(f, pick(golden, names), golden["z0"], golden.get("zstar_newton"), golden)


def pick(golden, names):
    return {k: golden[k] for k in names.split()}


def flat(z):
    return np.concatenate([np.reshape(x, (x.shape[0], -1)) for x in jax.tree.leaves(z)], -1)


PROBLEMS = {
    name: problem(name)
    for name in (
        *("solver_single_a", "solver_single_b", "solver_multi", "solver_batch_coupling"),
        *("grad_ift_single", "grad_ift_multi", "grad_phantom", "grad_states"),
    )
}
SOLVERS = {
    "fixed_point_iter": jdeq.FixedPointIter(max_iter=500, tol=1e-12),
    "simple_fixed_point_iter": jdeq.SimpleFixedPointIter(max_iter=400),
    "anderson": jdeq.Anderson(max_iter=200, tol=1e-12),
    "broyden": jdeq.Broyden(max_iter=60, tol=1e-12),
}


def weighted_squares(golden):
    """The loss of all gradient files: sum(z^2 c), over the leaves of z."""
    weights = [golden["c"]] if "c" in golden else [golden["c1"], golden["c2"]]
    return lambda z: sum(
        jnp.sum(x**2 * c) for x, c in zip(jax.tree.leaves(z), weights, strict=True)
    )


@functools.cache
def gradient(name, **settings):
    """(params, z0) -> (loss over the states asked for, (z, info)), gradients; compiled once."""
    p = PROBLEMS[name]
    loss = weighted_squares(p.golden)

    def total(params, z0):
        z, info = jdeq.deq(functools.partial(p.f, params), z0, **settings)
        return sum(map(loss, info.states or (z,))), (z, info)

    return jax.jit(jax.value_and_grad(total, has_aux=True))


def check_gradients(got, want, atol):
    for k, g in got.items():
        np.testing.assert_allclose(g, want["g" + k], rtol=0, atol=atol, err_msg=k)
