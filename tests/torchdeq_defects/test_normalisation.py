"""Weight normalisation is finite, current and without side effects, unlike in TorchDEQ 0.1.0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jdeq

pytestmark = pytest.mark.slow


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
