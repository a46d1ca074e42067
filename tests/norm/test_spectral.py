"""Spectral normalisation of plain pytrees, against TorchDEQ's numbers and NumPy's SVD."""

from typing import Any

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq

from ..golden import fields, load, load_cases
from ..tolerances import rounding

WEIGHTS, CASES = load("spectral_norm"), load_cases("spectral_norm")
RNG = np.random.default_rng(0)


def largest_singular_value(kernel, channels):
    """Of the kernel as a matrix with a row per channel."""
    kernel = np.asarray(kernel, np.float64)
    others = tuple(i for i in range(kernel.ndim) if i not in channels)
    rows = int(np.prod([kernel.shape[i] for i in channels]))
    return np.linalg.norm(kernel.transpose(channels + others).reshape(rows, -1), ord=2)


def from_torch(u, v, shape, channel):
    """TorchDEQ's flat vectors as ours, which broadcast against the kernel."""
    rest = [n for i, n in enumerate(shape) if i != channel]
    others = tuple(i for i in range(len(shape)) if i != channel)
    return jdeq.norm.PowerVectors(
        jnp.expand_dims(jnp.asarray(u), others), jnp.expand_dims(v.reshape(rest), channel)
    )


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["prefix"])
def test_torchdeq(case):
    want, channel = fields(WEIGHTS, case["prefix"]), case["channel_dim"]
    close = lambda got, name: np.testing.assert_allclose(got, want[name], rtol=0, atol=1e-12)
    params = {"weight": jnp.asarray(want["w"])}
    shape = want["w"].shape
    state = {"weight": from_torch(want["u0"], want["v0"], shape, channel)}
    options: dict[str, Any] = {"clip": case["clip_value"] if case["clip"] else None}
    if case["learn_scale"]:
        start = jdeq.norm.spectral_scales(
            params, state, target_norm=case["target_norm"], per_channel=True
        )
        close(start["weight"], "g_init")
        scales = {"weight": jnp.asarray(want["g"])}
    else:
        scales, options["target_norm"] = None, case["target_norm"]

    def normalised(params, scales, state, steps):
        return jdeq.norm.spectral_norm(params, state, scales, n_power_iterations=steps, **options)

    got, state1 = normalised(params, scales, state, case["n_power_iterations"])
    close(got["weight"], "w_eff")
    close(state1["weight"].u.ravel(), "u1")
    close(state1["weight"].v.ravel(), "v1")
    own = jdeq.norm.spectral_scales(params, state1, target_norm=None)
    close(own["weight"].squeeze(), "sigma")

    loss = lambda *args: jnp.sum(normalised(*args)[0]["weight"] * want["cotangent"])
    grads = jax.grad(loss, (0, 1))(params, scales, state, case["n_power_iterations"])
    close(grads[0]["weight"], "grad_w")
    if case["learn_scale"]:
        close(grads[1]["weight"], "grad_g")

    frozen, state2 = normalised(params, scales, state1, 0)  # evaluation
    close(frozen["weight"], "w_eff_eval")
    close(state2["weight"].u.ravel(), "u_after_eval")


SHAPES = {  # kernels, and the axes of their channels
    "dense": ((12, 7), (1,)),
    "dense, PyTorch": ((7, 12), (0,)),
    "wide": ((3, 40), (1,)),
    "conv 2D": ((3, 3, 4, 6), (3,)),
    "transposed conv": ((3, 3, 6, 4), (2,)),
    "heads": ((8, 2, 4), (1, 2)),
    "batch of matrices": ((3, 4, 5), (0, 2)),
    "one channel": ((5, 1), (1,)),
    "one input": ((1, 5), (1,)),
}


@pytest.mark.slow
@pytest.mark.parametrize("shape, channels", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("target", [1.0, 0.3])
def test_the_largest_singular_value_is_the_target(shape, channels, target):
    params = {"kernel": jnp.asarray(RNG.normal(size=shape))}
    state = jdeq.norm.spectral_state(params, channel_axis=channels)
    got, state = jdeq.norm.spectral_norm(params, state, target_norm=target, n_power_iterations=2000)
    np.testing.assert_allclose(largest_singular_value(got["kernel"], channels), target, rtol=1e-6)
    scales = jdeq.norm.spectral_scales(params, state, target_norm=target)
    assert scales["kernel"].size == 1  # one number bounds the norm
    again, _ = jdeq.norm.spectral_norm(params, state, scales)
    np.testing.assert_allclose(again["kernel"], got["kernel"], rtol=1e-9)


@pytest.mark.parametrize("shape, channels", SHAPES.values(), ids=SHAPES)
def test_the_first_kernels_are_not_far_off(shape, channels):
    params = {"kernel": jnp.asarray(RNG.normal(size=shape))}
    state = jdeq.norm.spectral_state(params, channel_axis=channels)
    got, _ = jdeq.norm.spectral_norm(params, state, n_power_iterations=0)
    assert 1 - 1e-12 <= largest_singular_value(got["kernel"], channels) < 1.05
    rough = jdeq.norm.spectral_state(params, channel_axis=channels, n_power_iterations=1)
    worse, _ = jdeq.norm.spectral_norm(params, rough, n_power_iterations=0)
    size = lambda params: largest_singular_value(params["kernel"], channels)
    assert size(worse) >= size(got) - 1e-12


def test_the_gradient_is_that_of_the_singular_value():
    kernel = jnp.asarray(RNG.normal(size=(5, 4)))
    cotangent = jnp.asarray(RNG.normal(size=(5, 4)))
    state = jdeq.norm.spectral_state({"kernel": kernel}, n_power_iterations=3000)

    def ours(kernel):
        got, _ = jdeq.norm.spectral_norm({"kernel": kernel}, state, target_norm=0.8)
        return jnp.sum(got["kernel"] * cotangent)

    exact = lambda k: jnp.sum(0.8 * k / jnp.linalg.svd(k, compute_uv=False)[0] * cotangent)
    np.testing.assert_allclose(jax.grad(ours)(kernel), jax.grad(exact)(kernel), atol=1e-9)


def test_scales_of_the_kernels_own_norm_change_nothing():
    params = {"a": {"kernel": jnp.asarray(RNG.normal(size=(5, 4)))}}
    state = jdeq.norm.spectral_state(params)
    scales = jdeq.norm.spectral_scales(params, state, target_norm=None)
    got, _ = jdeq.norm.spectral_norm(params, state, scales, n_power_iterations=0)
    np.testing.assert_allclose(got["a"]["kernel"], params["a"]["kernel"], rtol=1e-14)


def test_every_option_does_something():
    params = {"kernel": jnp.diag(jnp.array([4.0, 2.0, 1.0]))}
    state = jdeq.norm.spectral_state(params, n_power_iterations=1)

    def run(scales=None, **options):
        return jdeq.norm.spectral_norm(params, state, scales, **options)

    size = lambda **options: np.linalg.norm(run(**options)[0]["kernel"], ord=2)
    base = size()
    np.testing.assert_allclose(size(target_norm=0.5), base / 2, rtol=1e-12)
    np.testing.assert_allclose(size(clip=0.1), 0.4, rtol=1e-12)
    np.testing.assert_allclose(size(eps=5.0), 4, rtol=1e-12)
    np.testing.assert_allclose(size(scales={"kernel": jnp.full((1, 1), 3.0)}), 3 * base, rtol=1e-12)
    assert size(n_power_iterations=5) < base < size(n_power_iterations=0)
    scales = jdeq.norm.spectral_scales(params, state, target_norm=2.0, per_channel=True)
    np.testing.assert_array_equal(scales["kernel"], np.full((1, 3), 2.0))


@pytest.mark.parametrize("scaled", [True, False])
def test_a_zero_kernel_stays_zero_and_has_finite_gradients(scaled):
    params = {"kernel": jnp.zeros((3, 4))}
    state = jdeq.norm.spectral_state(params)
    scales = jdeq.norm.spectral_scales(params, state) if scaled else None
    run = lambda params, scales: jdeq.norm.spectral_norm(params, state, scales)
    got, after = run(params, scales)
    np.testing.assert_array_equal(got["kernel"], 0)
    jax.tree.map(np.testing.assert_array_equal, after, state)  # the vectors survive
    np.testing.assert_allclose([np.linalg.norm(x) for x in after["kernel"]], 1, rtol=1e-12)
    loss = lambda *args: jnp.sum((1 + run(*args)[0]["kernel"]) ** 2)
    grads = jax.tree.leaves(jax.jit(jax.grad(loss, (0, 1)))(params, scales))
    assert len(grads) == 1 + scaled and all(np.isfinite(g).all() for g in grads)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_dtypes(dtype):
    params = {"kernel": jnp.asarray(RNG.normal(size=(64, 32)), dtype)}
    state = jdeq.norm.spectral_state(params)
    assert {x.dtype for x in state["kernel"]} == {jnp.dtype(jnp.float32)}
    assert jdeq.norm.spectral_scales(params, state)["kernel"].dtype == dtype
    got, state = jdeq.norm.spectral_norm(params, state, n_power_iterations=500)
    assert got["kernel"].dtype == dtype and state["kernel"].u.dtype == jnp.float32
    size = largest_singular_value(got["kernel"], (1,))
    close = rounding(jnp.float32, terms=64 + 32) + 2 * float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(size, 1, rtol=close)


def test_jit_vmap_and_scan():
    kernels = jnp.asarray(RNG.normal(size=(3, 5, 4)))
    alone = [jdeq.norm.spectral_state({"kernel": k}) for k in kernels]
    states = jax.vmap(lambda k: jdeq.norm.spectral_state({"kernel": k}))(kernels)
    step = lambda k, s: jdeq.norm.spectral_norm({"kernel": k}, s, n_power_iterations=2)
    got, after = jax.jit(jax.vmap(step))(kernels, states)
    for i, (kernel, state) in enumerate(zip(kernels, alone, strict=True)):
        want, want_after = step(kernel, state)
        np.testing.assert_allclose(got["kernel"][i], want["kernel"], rtol=1e-12)
        for name in ("u", "v"):
            mine = getattr(after["kernel"], name)[i]
            np.testing.assert_allclose(mine, getattr(want_after["kernel"], name), atol=1e-12)
    carried, _ = jax.lax.scan(lambda s, _: (step(kernels[0], s)[1], None), alone[0], length=3)
    at_once = jdeq.norm.spectral_norm({"kernel": kernels[0]}, alone[0], n_power_iterations=6)[1]
    np.testing.assert_allclose(carried["kernel"].u, at_once["kernel"].u, atol=1e-12)


@pytest.mark.slow
def test_equinox_modules():
    mlp = equinox.nn.MLP(3, 2, 5, 1, key=jax.random.key(0))
    state = jdeq.norm.spectral_state(mlp, channel_axis=0, n_power_iterations=1000)
    assert set(state) == {"layers.0.weight", "layers.1.weight"}
    got, _ = jdeq.norm.spectral_norm(mlp, state, target_norm=0.9)
    for layer in got.layers:
        np.testing.assert_allclose(np.linalg.norm(layer.weight, ord=2), 0.9, rtol=1e-5)


PARAMS = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}
STATE = jdeq.norm.spectral_state(PARAMS)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"target_norm": -1}, "target_norm must be > 0, got -1"),
        ({"clip": 0}, "clip must be > 0, got 0"),
        ({"eps": -1.0}, "eps must be >= 0, got -1.0"),
        ({"n_power_iterations": -1}, "n_power_iterations must be >= 0, got -1"),
        ({"scales": {}}, "no scale for 'kernel'"),
        ({"state": {"weight": STATE["kernel"]}}, "params have no 'weight'"),
        ({"params": {"kernel": jnp.ones((2, 4))}}, "'kernel' is for another shape than .*2, 4"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        jdeq.norm.spectral_norm(**{"params": PARAMS, "state": STATE} | options)


def test_bad_options_of_the_start_are_named():
    with pytest.raises(ValueError, match="n_power_iterations must be >= 1, got 0"):
        jdeq.norm.spectral_state(PARAMS, n_power_iterations=0)
    with pytest.raises(ValueError, match="target_norm must be > 0, got 0"):
        jdeq.norm.spectral_scales(PARAMS, STATE, target_norm=0)
