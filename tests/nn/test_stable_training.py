"""Everything that stabilises training at once: on a mesh the same curve as on one device."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType

import jdeq

pytestmark = pytest.mark.slow
STEPS, BATCH, CLASSES, WIDTH = 50, 64, 5, 16
RNG = np.random.default_rng(0)
X = RNG.normal(size=(BATCH, WIDTH)).astype(np.float32)
Y = np.argmax(X @ RNG.normal(size=(WIDTH, CLASSES)), axis=1).astype(np.int32)


class Cell(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
        self.drop = jdeq.nn.VariationalDropout(0.1, rngs=rngs)

    def __call__(self, z, x):
        return self.drop(jnp.tanh(self.linear(z) + x))


class Classifier(nnx.Module):
    """A DEQ with spectral norm, dropout, sampled states and Jacobian penalty, then a linear map."""

    def __init__(self, rngs):
        config = jdeq.DEQConfig(
            f_solver="anderson",
            f_tol=1e-5,
            f_stop_mode="rel",
            grad=5,
            tau=0.8,
            n_states=3,
            norm_type="spectral_norm",
            norm_target_norm=0.8,
            jac_loss_weight=0.5,
            jac_loss_freq=0.7,
        )
        self.deq = jdeq.nn.DEQ(Cell(rngs), config)
        self.head = nnx.Linear(WIDTH, CLASSES, rngs=rngs)

    def loss(self, x, y, key):
        """Cross entropy over the sampled states plus the penalty."""
        z, info = self.deq(x, key=key)
        fit = lambda state: optax.softmax_cross_entropy_with_integer_labels(self.head(state), y)
        corrected = jdeq.fixed_point_correction(lambda state: fit(state).mean(), info.states)
        return corrected + self.deq.jac_loss(x, z, key), z


def train(mesh=None):
    """The losses, every parameter's gradient norm at each step, the last state and the model's."""
    place = lambda tree, *axes: (
        jax.device_put(tree, jax.NamedSharding(mesh, jax.P(*axes))) if mesh else tree
    )
    graphdef, params, rest = nnx.split(Classifier(nnx.Rngs(0)), nnx.Param, ...)
    optimizer = optax.sgd(0.1, momentum=0.9)
    params, rest, key = place((params, rest, jax.random.key(1)))
    moments = optimizer.init(params)
    x, y = place((jnp.asarray(X), jnp.asarray(Y)), "data")

    @jax.jit
    def update(params, rest, moments, x, y, step):
        def loss_fn(params):
            model = nnx.merge(graphdef, params, rest, copy=True)
            loss, z = model.loss(x, y, jax.random.fold_in(key, step))
            return loss, (nnx.state(model, nnx.Not(nnx.Param)), z)

        (loss, (new, z)), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
        updates, moments = optimizer.update(grads, moments, params)
        norms = jnp.stack([jnp.linalg.norm(g.ravel()) for g in jax.tree.leaves(grads)])
        return optax.apply_updates(params, updates), new, moments, loss, norms, z

    losses, norms, z = [], [], x
    for step in range(STEPS):
        params, rest, moments, loss, grads, z = update(params, rest, moments, x, y, np.int32(step))
        losses.append(float(loss))  # waits: simulated devices starve with several steps in flight
        norms.append(np.asarray(grads))
    return np.array(losses), np.stack(norms), z, (params, rest)


@pytest.fixture(scope="module")
def one_device():
    return train()


def test_the_loss_goes_down_and_every_parameter_has_a_gradient(one_device):
    losses, norms, _, (params, rest) = one_device
    assert losses[-10:].mean() < 0.5 * losses[:5].mean()
    assert norms.shape == (STEPS, len(jax.tree.leaves(params))) == (STEPS, 5)
    assert np.isfinite(norms).all() and (norms > 0).all()
    start = nnx.state(Classifier(nnx.Rngs(0)), jdeq.nn.PowerIteration)
    moved = nnx.filter_state(rest, jdeq.nn.PowerIteration)
    for old, new in zip(jax.tree.leaves(start), jax.tree.leaves(moved), strict=True):
        assert np.abs(old - new).max() > 1e-3


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_a_mesh_gives_the_same_curve(one_device, kind):
    want_losses, want_norms, _, want_state = one_device
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        losses, norms, z, state = train(mesh)
    assert z.sharding.spec[0] == "data" and len(z.addressable_shards) == 8
    np.testing.assert_allclose(losses, want_losses, rtol=0, atol=1e-4)
    np.testing.assert_allclose(norms, want_norms, rtol=1e-3, atol=1e-4)
    for got, want in zip(jax.tree.leaves(state), jax.tree.leaves(want_state), strict=True):
        assert got.sharding.is_fully_replicated
        if jnp.issubdtype(got.dtype, jnp.floating):  # and not a PRNG key
            np.testing.assert_allclose(got, want, atol=1e-3)
