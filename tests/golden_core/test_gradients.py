"""Implicit, phantom and unrolled gradients, against numbers that TorchDEQ 0.1.0 made."""

import functools

import jax
import numpy as np
import pytest

import jdeq

from ..golden import fields
from .problems import PROBLEMS, SOLVERS, check_gradients, flat, gradient

pytestmark = pytest.mark.slow


@functools.cache
def solution(solver):
    p = PROBLEMS["grad_ift_single"]
    return jax.jit(lambda: jdeq.deq(functools.partial(p.f, p.params), p.z0, solver=solver)[0])()


@pytest.mark.parametrize("backward", SOLVERS)
@pytest.mark.parametrize("forward", SOLVERS)
def test_implicit_gradient(forward, backward):
    """The forward solver enters by its solution only: each gradient is compiled once, there."""
    p = PROBLEMS["grad_ift_single"]
    here = jdeq.FixedPointIter(max_iter=0)
    run = gradient("grad_ift_single", solver=here, backward=jdeq.IFT(SOLVERS[backward]))
    (loss, (z, _)), grads = run(p.params, solution(SOLVERS[forward]))
    want = fields(p.golden, "exact")
    np.testing.assert_allclose(z, p.newton, rtol=0, atol=1e-9)
    np.testing.assert_allclose(loss, want["loss"], rtol=0, atol=1e-9)
    check_gradients(grads, want, atol=1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
def test_implicit_gradient_of_two_coupled_states(solver):
    p = PROBLEMS["grad_ift_multi"]
    run = gradient("grad_ift_multi", solver=SOLVERS[solver], backward=jdeq.IFT(SOLVERS[solver]))
    (_, (z, _)), grads = run(p.params, p.z0)
    np.testing.assert_allclose(flat(z), p.newton, rtol=0, atol=1e-9)
    check_gradients(grads, fields(p.golden, "exact"), atol=1e-9)


@pytest.mark.parametrize("tau", [1.0, 0.5])
@pytest.mark.parametrize("steps", [1, 3, 5])
@pytest.mark.parametrize("unroll", [1, 2])
def test_phantom_gradient(steps, tau, unroll):
    p = PROBLEMS["grad_phantom"]
    solver = jdeq.FixedPointIter(max_iter=500, tol=1e-13, stop_mode="abs")
    backward = jdeq.PhantomGrad(steps, tau, unroll=unroll)
    run = gradient("grad_phantom", solver=solver, backward=backward)
    (loss, (z, _)), grads = run(p.params, p.z0)
    want = fields(p.golden, f"phantom_k{steps}_tau{tau}")
    np.testing.assert_allclose(z, want["z"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(loss, want["loss"], rtol=0, atol=1e-9)
    check_gradients(grads, want, atol=1e-9)


@pytest.mark.parametrize("core", ["sliced", "indexing"])
def test_twelve_steps_of_backpropagation_through_time(core):
    p = PROBLEMS["grad_phantom"]
    solver = jdeq.FixedPointIter(max_iter=0)
    run = gradient("grad_phantom", solver=solver, backward=jdeq.PhantomGrad(12, 1.0))
    (loss, _), grads = run(p.params, p.z0)
    want = fields(p.golden, f"bptt12_{core}")
    np.testing.assert_allclose(loss, want["loss"], rtol=0, atol=1e-11)
    check_gradients(grads, want, atol=1e-11)
