"""States sampled on the way and their gradients, against numbers that TorchDEQ 0.1.0 made."""

import functools

import jax
import numpy as np
import pytest

import jdeq

from ..golden import fields
from .problems import PROBLEMS, SOLVERS, check_gradients, gradient, network, weighted_squares

pytestmark = pytest.mark.slow


SAMPLINGS = {"nstates": {"n_states": 3}, "indexing": {"indexing": (3, 6)}}
TEN = jdeq.FixedPointIter(max_iter=10, tol=1e-14)


@pytest.mark.parametrize("kind", SAMPLINGS)
def test_sampled_states_with_phantom_gradients(kind):
    p = PROBLEMS["grad_states"]
    run = gradient("grad_states", solver=TEN, backward=jdeq.PhantomGrad(1), **SAMPLINGS[kind])
    (loss, (_, info)), grads = run(p.params, p.z0)
    want = fields(p.golden, f"indexing__fixed_point_iter__{kind}__full__pg1")
    np.testing.assert_allclose(np.stack(info.states), want["states"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(loss, want["loss"], rtol=0, atol=1e-9)
    np.testing.assert_array_equal(info.steps, want["nstep"])
    check_gradients(grads, want, atol=1e-9)


def pull(p, z, cotangent):
    """(df/dparams)^T cotangent at z, in numpy."""
    pre = cotangent * (1 - np.asarray(network(p, z)) ** 2)
    return {"W": pre.T @ z, "U": pre.T @ p["x"], "b": pre.sum(0), "x": pre @ p["U"]}


@pytest.mark.parametrize("kind", SAMPLINGS)
def test_sampled_states_with_an_implicit_gradient_for_the_last(kind):
    """TorchDEQ takes the last state's derivatives at two points, z and f(z); we at z alone."""
    p = PROBLEMS["grad_states"]
    backward = jdeq.IFT(SOLVERS["fixed_point_iter"])
    run = gradient("grad_states", solver=TEN, backward=backward, **SAMPLINGS[kind])
    (_, (z, info)), grads = run(p.params, p.z0)
    want = fields(p.golden, f"indexing__fixed_point_iter__{kind}__full__ift")
    np.testing.assert_allclose(np.stack(info.states[:-1]), want["states"][:-1], rtol=0, atol=1e-9)

    z, c, w = np.asarray(z), p.golden["c"], p.params["W"]
    slope = 1 - np.asarray(network(p.params, z)) ** 2
    jacobians = slope[:, :, None] * w
    adjoint = np.linalg.solve(np.eye(16) - jacobians.transpose(0, 2, 1), (2 * c * z)[..., None])
    terms = [pull(p.params, z, adjoint[..., 0])]
    picked = {"nstates": (4, 7), "indexing": (3, 6)}[kind]
    before = np.asarray(p.z0)
    for k in range(1, 8):
        before = np.asarray(network(p.params, before))
        if k in picked:
            terms.append(pull(p.params, before, 2 * c * np.asarray(network(p.params, before))))
    check_gradients(grads, {"g" + k: sum(t[k] for t in terms) for k in grads}, atol=1e-9)


SLICES = {"nstates": {"n_states": 3, "f_max_iter": 9}, "indexing": SAMPLINGS["indexing"]}


@pytest.mark.parametrize("kind", SLICES)
def test_a_solve_in_slices(kind):
    """TorchDEQ drops the last of 10 iterations that 3 slices do not share: asked for 9 of us."""
    p = PROBLEMS["grad_states"]
    options = {"core": "sliced", "f_tol": 1e-14, "f_max_iter": 10} | SLICES[kind]
    layer, loss = jdeq.get_deq(options), weighted_squares(p.golden)

    def total(params, z0):
        z, info = layer(functools.partial(p.f, params), z0)
        return sum(map(loss, info.states)), (z, info)

    (value, (z, info)), grads = jax.jit(jax.value_and_grad(total, has_aux=True))(p.params, p.z0)
    want = fields(p.golden, f"sliced__fixed_point_iter__{kind}__full__pg1")
    np.testing.assert_allclose(np.stack(info.states), want["states"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(value, want["loss"], rtol=0, atol=1e-9)
    check_gradients(grads, want, atol=1e-9)
    np.testing.assert_array_equal(info.states[-1], z)
    assert info.abs_trace.shape == (4, layer.config.f_max_iter)
    np.testing.assert_array_equal(info.steps, layer.config.f_max_iter)
    # each slice measures its last state, makes the phantom step and measures that too
    assert info.nfe == layer.config.f_max_iter + 3 * 3
