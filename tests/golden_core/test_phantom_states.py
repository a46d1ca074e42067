"""Supervision of the states between phantom steps, against numbers that TorchDEQ 0.1.0 made."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

import jdeq

from ..golden import fields
from .problems import PROBLEMS, check_gradients, weighted_squares

pytestmark = pytest.mark.slow


SUPERVISED = {  # how to ask for them, and which of our states TorchDEQ returns
    "gap_even": (jdeq.PhantomGrad(6, sup_gap=2), (0, 1, 2)),
    "gap_ragged": (jdeq.PhantomGrad(5, sup_gap=2), (0, 1)),  # theirs leave out the last
    "loc": (jdeq.PhantomGrad(5, sup_loc=(2, 4)), (0, 1, 2)),
    "loc_with_last": (jdeq.PhantomGrad(5, sup_loc=(2, 5)), (0, 1, 1)),  # theirs repeat it
}


@pytest.mark.parametrize("tau", [1.0, 0.5])
@pytest.mark.parametrize("name", SUPERVISED)
def test_states_between_phantom_steps(name, tau):
    p = PROBLEMS["grad_phantom"]
    backward, theirs = SUPERVISED[name]
    solver = jdeq.SimpleFixedPointIter(max_iter=2)

    @functools.partial(jax.jit, static_argnums=1)
    def run(params, backward):
        z, info = jdeq.deq(functools.partial(p.f, params), p.z0, solver=solver, backward=backward)
        states = [info.states[i] for i in theirs]
        return sum(map(weighted_squares(p.golden), states)), (z, info.states)

    backward = dataclasses.replace(backward, tau=tau)
    (_, (z, states)), grads = jax.value_and_grad(run, has_aux=True)(p.params, backward)
    want = fields(p.golden, f"{name}_tau{tau}")
    np.testing.assert_array_equal(states[-1], z)
    got = np.stack([states[i] for i in theirs])
    np.testing.assert_allclose(got, want["states"], rtol=0, atol=1e-11)
    check_gradients(grads, want, atol=1e-11)
