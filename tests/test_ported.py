"""Code that was written for TorchDEQ is told what to write instead."""

import jax.numpy as jnp
import pytest

import jdeq


@pytest.mark.parametrize(
    "name, write",
    [
        ("rel_lowest", "write info.rel_residual"),
        ("abs_lowest", "write info.abs_residual"),
        ("nstep", "write info.steps"),
        ("abs_trace", "write info.abs_trace"),
        ("sradius", "it has abs_residual, .*, status"),
    ],
)
def test_statistics_by_key(name, write):
    _, info = jdeq.deq(lambda z: 0.5 * z + 1, jnp.zeros((2, 1)))
    with pytest.raises(TypeError, match=write):
        info[name]
    assert info[0] is info.abs_residual and len(info[:2]) == 2


def test_no_gradient_is_good_without_a_reference():
    f = lambda p, z: z + z**2 + p  # no fixed point
    found = jdeq.check_gradient(f, jnp.zeros((1, 1)), jnp.sum, jnp.ones((1, 1)), rtol=1e9)
    assert not found.good and "no reference" in found.verdict
