"""Skip DEQ: a network that predicts the state."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jdeq

from ..tolerances import rounding, solved

pytestmark = pytest.mark.slow

X = jnp.asarray(np.random.default_rng(0).normal(size=(64, 3)), jnp.float32)


class Cell(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(8, 8, kernel_init=nnx.initializers.orthogonal(0.8), rngs=rngs)
        self.input = nnx.Linear(3, 8, rngs=rngs)

    def __call__(self, z, x):
        return jnp.tanh(self.linear(z) + self.input(x))

    def initial_state(self, x, key=None):
        return jnp.zeros((len(x), 8), x.dtype)


def predictor(rngs):
    return nnx.Sequential(
        nnx.Linear(3, 32, rngs=rngs), jnp.tanh, nnx.Linear(32, 8, rngs=rngs), jnp.tanh
    )


def layer(*, predict=True, **options):
    guess = predictor(nnx.Rngs(1)) if predict else None
    config = jdeq.DEQConfig(**{"f_tol": 5e-2, "ift": True, **options})
    return jdeq.nn.DEQ(Cell(nnx.Rngs(0)), config, predictor=guess)


def sizes(grads):
    """Largest entry of the gradient, of the cell and of the predictor."""
    return [
        max(np.abs(g).max() for g in jax.tree.leaves(nnx.state(part, nnx.Param)))
        for part in (grads.cell, grads.predictor)
    ]


@pytest.mark.parametrize(
    "options", [{}, {"ift": False, "grad": 3}, {"ift": False, "f_max_iter": 0, "grad": 5}]
)
def test_the_state_gives_the_predictor_no_gradient(options):
    cell, guess = sizes(jax.grad(lambda m: m(X)[0].sum())(layer(**options)))
    assert cell > 0.1 and guess == 0


@pytest.mark.parametrize("detach", [True, False])
def test_the_skip_loss_trains_the_predictor(detach):
    def loss(model):
        z, _ = model(X)
        return model.skip_loss(X, z, detach=detach)

    cell, guess = sizes(jax.grad(loss)(layer()))
    assert guess > 1e-3 and (cell == 0) == detach


def test_the_skip_loss_is_the_mean_square_over_all_leaves():
    cell = lambda z, x: {"a": 0.5 * z["a"] + x, "b": 0.5 * z["b"] + x[:, :2]}
    guess = lambda x: {"a": x, "b": x[:, :2]}
    deq = jdeq.nn.DEQ(cell, jdeq.DEQConfig(f_tol=1e-6), predictor=guess)
    z, _ = deq(X)  # 2 x
    want = np.mean(np.concatenate([X, X[:, :2]], 1) ** 2)
    # z is off by a share of itself, z - x by twice that share, its square by four times
    close = 4 * solved(1e-6, rate=0.5) + rounding(X.dtype, terms=5 * len(X))
    np.testing.assert_allclose(deq.skip_loss(X, z), want, rtol=close)


def test_the_start_is_the_prediction_unless_given():
    model = layer(f_max_iter=0, ift=True)
    assert model.predictor is not None
    close = rounding(X.dtype, terms=3 + 32, size=8)
    np.testing.assert_allclose(model(X)[0], model.predictor(X), rtol=0, atol=close)
    ones = jnp.ones((64, 8), jnp.float32)
    np.testing.assert_allclose(model(X, ones)[0], ones)


def test_training_with_the_skip_loss_saves_evaluations():
    model = layer()
    head = 0.2 * jnp.asarray(np.random.default_rng(2).normal(size=(8,)), jnp.float32)
    target = 0.2 * jnp.sin(X[:, 0])
    optimizer = nnx.Optimizer(model, optax.sgd(0.05, momentum=0.9), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        def loss(m):
            z, info = m(X)
            return jnp.mean((z @ head - target) ** 2) + m.skip_loss(X, z), (z, info)

        (_, (z, info)), grads = nnx.value_and_grad(loss, has_aux=True)(model)
        optimizer.update(model, grads)
        return model.skip_loss(X, z), info

    first, before = step(model, optimizer)
    for _ in range(300):
        last, after = step(model, optimizer)
    _, from_zero = model(X, jnp.zeros((64, 8), jnp.float32))
    _, predicted = model(X)
    assert np.all(before.converged) and np.all(predicted.converged)
    assert last < 0.1 * first
    assert predicted.steps.mean() < 0.75 * before.steps.mean()
    assert predicted.steps.mean() < 0.75 * from_zero.steps.mean()
    assert predicted.nfe < from_zero.nfe


def test_misuse_is_named():
    with pytest.raises(ValueError, match="needs a layer with a predictor"):
        layer(predict=False).skip_loss(X, X)
    with pytest.raises(ValueError, match="init and predictor"):
        jdeq.nn.DEQ(lambda z, x: z, init=jnp.zeros_like, predictor=jnp.zeros_like)
    with pytest.raises(ValueError, match="predictor makes"):
        layer().skip_loss(X, jnp.zeros((64, 7), jnp.float32))
