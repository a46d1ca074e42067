"""The zoo's convolution against JAX's own, in every order of differentiation."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from zoo.nn.convolution import conv_general_dilated

RNG = np.random.default_rng(0)
X, W = RNG.normal(size=(2, 8, 6, 3)), RNG.normal(size=(3, 3, 3, 4))
NHWC = lax.conv_dimension_numbers(X.shape, W.shape, ("NHWC", "HWIO", "NHWC"))


def loss_of(convolve, stride=1, padding=((1, 1), (0, 2))):
    """sum sin(x * w)^2"""

    def loss(x, w):
        y = convolve(x, w, (stride, stride), padding, dimension_numbers=NHWC)
        return jnp.sum(jnp.sin(y) ** 2)

    return loss


def gradient(f):
    return lambda x, w: jax.grad(f, (0, 1))(x, w)


def directional(f):
    return lambda x, w: jax.jvp(f, (x, w), (jnp.cos(x), jnp.cos(w)))


def squared(f):
    return lambda x, w: sum(jnp.sum(a**2) for a in jax.tree.leaves(f(x, w)))


ORDERS = {
    "value": lambda f: f,
    "reverse": gradient,
    "forward": directional,
    "reverse over reverse": lambda f: gradient(squared(gradient(f))),
    "forward over reverse": lambda f: directional(gradient(f)),
    "reverse over forward": lambda f: gradient(squared(directional(f))),
    "many samples": lambda f: lambda x, w: jax.vmap(gradient(f), (0, None))(x[:, None], w),
    "many kernels": lambda f: lambda x, w: jax.vmap(gradient(f), (None, 0))(x, jnp.stack([w, -w])),
}


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("stride", (1, 2))
def test_derivatives_are_those_of_jax(order, stride):
    ours, theirs = (
        jax.jit(ORDERS[order](loss_of(convolve, stride)))(X, W)
        for convolve in (conv_general_dilated, lax.conv_general_dilated)
    )
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11 * float(jnp.abs(b).max()))


def test_groups_are_left_to_jax():
    w = W[:, :, :1]
    w = jnp.concatenate([w, w[..., :2]], -1)  # (3, 3, 1, 6): two outputs for each input
    spec = lax.conv_dimension_numbers(X.shape, w.shape, ("NHWC", "HWIO", "NHWC"))
    options = {"dimension_numbers": spec, "feature_group_count": 3}
    ours, theirs = (
        jax.grad(lambda w, c=c: jnp.sum(c(jnp.asarray(X), w, (1, 1), "SAME", **options) ** 2))(w)
        for c in (conv_general_dilated, lax.conv_general_dilated)
    )
    np.testing.assert_array_equal(ours, theirs)


def orders_of_axes(convolve) -> set[str]:
    """Of the convolutions in a compiled loop over gradients."""
    both = jax.grad(loss_of(convolve), (0, 1))
    loop = lambda x, w: lax.fori_loop(0, 3, lambda _, c: both(*c), (x, w))
    x, w = jax.device_put((X.astype(np.float32), W.astype(np.float32)), jax.devices("cpu")[0])
    program = jax.jit(loop).lower(x, w).compile()
    return set(re.findall(r"dim_labels=(\S+?)[,\s]", program.as_text() or ""))


def test_a_cpu_sees_the_order_it_is_fast_in_alone():
    assert orders_of_axes(conv_general_dilated) == {"b01f_01io->b01f"}
    assert len(orders_of_axes(lax.conv_general_dilated)) == 3
