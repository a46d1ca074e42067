"""Losses on several states, against TorchDEQ's numbers and the sums written out."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq

from ..golden import load, load_cases

KEY = jax.random.key(0)
STATES = [jnp.full((2, 3), float(i)) for i in (1, 2, 3)]


def mse(z, y):
    return jnp.mean((z - y) ** 2)


def test_golden_losses():
    arrays = load("fp_correction")
    zs, y, y2, mask = (jnp.asarray(arrays[k]) for k in ("zs", "y", "y2", "mask"))
    for case in load_cases("fp_correction"):
        n = case["n_states"]
        states, loss_fn = list(zs[:n]), lambda z: mse(z, y)
        if case["crit"] == "masked_mae":
            loss_fn = lambda z: jnp.mean(jnp.abs(z - y) * mask)
        elif case["crit"] == "mse_two_targets":  # the shorter list is used again from its start
            pairs = max(n, 2)
            states = [(states[i % n], y2[i % 2]) for i in range(pairs)]
            loss_fn = lambda pair: mse(*pair)
        options = case["kwargs"] | {"weighting": case["weight_func"]}
        got = jdeq.fixed_point_correction(loss_fn, states, **options)
        assert got.shape == ()
        want = case["loss"] if "loss" in case else case["scalar_intended"]
        np.testing.assert_allclose(got, want, atol=1e-12, err_msg=str(case))


@pytest.mark.parametrize(
    "options, weights",
    [
        ({}, [0.64, 0.8, 1]),
        ({"gamma": 0.5}, [0.25, 0.5, 1]),
        ({"gamma": 0}, [0, 0, 1]),
        ({"gamma": 0.0, "weighting": "exp"}, [0, 0, 1]),
        ({"weighting": "linear"}, [0.4, 0.7, 1]),
        ({"weighting": "linear", "gamma": 0.6, "bias": 1.0}, [1.6, 1.8, 2]),
        ({"weighting": "const"}, [1, 1, 1]),
        ({"weighting": "const", "c": 3.0}, [3, 3, 3]),
        ({"weighting": lambda n, k: float(10 * n + k)}, [30, 31, 32]),
    ],
)
def test_weights(options, weights):
    got = jdeq.fixed_point_correction(lambda z: z.sum(), STATES, **options)
    np.testing.assert_allclose(got, np.dot(weights, [6, 12, 18]), rtol=1e-12)


def test_the_loss_may_be_per_sample_and_gamma_traced():
    loss = lambda gamma: jdeq.fixed_point_correction(lambda z: z.sum(1), STATES, gamma=gamma)
    assert loss(0.5).shape == (2,)
    np.testing.assert_allclose(jax.jit(loss)(0.0), [9, 9])
    np.testing.assert_allclose(jax.jacobian(loss)(0.0), [6, 6])


@pytest.mark.slow
@pytest.mark.parametrize("backward", ["ift", jdeq.PhantomGrad(4, sup_gap=2)])
def test_gradients_pass_through_the_states(backward):
    def loss(a, gamma):
        f = lambda z: a * z + 1
        _, info = jdeq.deq(f, jnp.zeros((1, 1)), n_states=3, max_iter=9, backward=backward)
        return jdeq.fixed_point_correction(lambda z: z.sum(), info.states, gamma=gamma)

    last, more = jax.grad(loss)(0.5, 0.0), jax.grad(loss)(0.5, 0.5)
    np.testing.assert_allclose(last, 4, rtol=0.1)
    assert more > 1.3 * last


@pytest.mark.slow
def test_jacobian_correction_sums_over_the_states():
    f = lambda z: jnp.tanh(z) ** 2
    signs: Any = {"distribution": "rademacher"}
    each = [jdeq.jac_reg(f, z, KEY, **signs) for z in STATES]  # exact: J is diagonal
    got = jdeq.jacobian_correction(f, STATES, KEY, gamma=0.3, **signs)
    np.testing.assert_allclose(got, 0.3 * sum(each), rtol=1e-12)
    draws = [jdeq.jacobian_correction(f, STATES, KEY, n_samples=n) for n in (1, 2)]
    assert draws[0] != draws[1]
    one = [jnp.ones(4)]
    assert jdeq.jacobian_correction(f, one, KEY, batch_dims=0).shape == ()
    same = jdeq.jacobian_correction(f, [STATES[0]] * 2, KEY) / 2
    assert not np.isclose(same, jdeq.jac_reg(f, STATES[0], jax.random.split(KEY, 2)[0]))


def test_what_is_refused():
    loss = lambda z: z.sum()
    correction = jdeq.fixed_point_correction
    with pytest.raises(ValueError, match="weighting"):
        correction(loss, STATES, weighting="cosine")  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="weighting"):
        correction(loss, STATES, weighting=3)  # pyright: ignore[reportArgumentType]
    without: Any = {"exp": "bias", "const": "gamma", "linear": "c"}
    for weighting, option in without.items():
        with pytest.raises(TypeError, match=f"no option '{option}'"):
            correction(loss, STATES, weighting=weighting, **{option: 0.5})
    with pytest.raises(TypeError, match="no option 'gamma'"):
        correction(loss, STATES, weighting=lambda n, k: 1.0, gamma=0.5)
    with pytest.raises(ValueError, match="gamma"):
        correction(loss, STATES, gamma=1.5)
    one: Any = STATES[0]
    for call in (correction, lambda _, z: jdeq.jacobian_correction(loss, z, KEY)):
        with pytest.raises(TypeError, match="info.states"):
            call(loss, one)
        with pytest.raises(ValueError, match="n_states"):
            call(loss, ())
