import jax.numpy as jnp
import numpy as np
from flax import nnx

from zoo.nn.batch_norm import BatchNorm


def test_running_variance_is_unbiased_and_output_biased():
    x = np.random.default_rng(0).normal(2.0, 3.0, (2, 3, 2, 4)).astype(np.float32)
    bn = BatchNorm(4)
    y = bn(jnp.asarray(x))
    flat = x.reshape(-1, 4)
    np.testing.assert_allclose(bn.mean[...], 0.1 * flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(bn.var[...], 0.9 + 0.1 * flat.var(0, ddof=1), rtol=1e-5)
    want = (x - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5)
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-5)


def test_evaluation_uses_and_keeps_the_running_statistics():
    x = np.random.default_rng(0).normal(2.0, 3.0, (5, 4)).astype(np.float32)
    bn = BatchNorm(4)
    bn(jnp.asarray(x))
    mean, var = np.array(bn.mean[...]), np.array(bn.var[...])
    bn.eval()
    np.testing.assert_allclose(
        bn(jnp.asarray(x)), (x - mean) / np.sqrt(var + 1e-5), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(bn.mean[...], mean)
    np.testing.assert_array_equal(bn.var[...], var)


def test_without_affine_there_are_no_parameters():
    assert not nnx.to_flat_state(nnx.state(BatchNorm(4, affine=False), nnx.Param))
