"""Weight normalisation of plain pytrees, against TorchDEQ's numbers and the formula in NumPy."""

from typing import Any

import equinox
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq

from ..golden import fields, load, load_cases
from ..machine import FLOAT16
from ..tolerances import rounding

WEIGHTS, CASES = load("weight_norm"), load_cases("weight_norm")
RNG = np.random.default_rng(0)
FLOAT32 = rounding(jnp.float32, terms=2 * (5 + 2))  # two norms of five numbers at most


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["prefix"])
def test_torchdeq(case):
    want = fields(WEIGHTS, case["prefix"])
    params, which = {"weight": jnp.asarray(want["w"])}, {"channel_axis": case["channel_dim"]}
    options: dict[str, Any] = {"clip": case["clip_value"] if case["clip"] else None, **which}
    if case["learn_scale"]:
        scales = jdeq.norm.weight_scales(params, **which)
        np.testing.assert_allclose(scales["weight"], want["g_init"], rtol=0, atol=1e-12)
        scales = {"weight": jnp.asarray(want["g"])}
    else:
        scales, options["target_norm"] = None, case["target_norm"]
    normalised = lambda params, scales: jdeq.norm.weight_norm(params, scales, **options)["weight"]
    np.testing.assert_allclose(normalised(params, scales), want["w_eff"], rtol=0, atol=1e-12)
    loss = lambda params, scales: jnp.sum(normalised(params, scales) * want["cotangent"])
    grads = jax.grad(loss, (0, 1))(params, scales)
    np.testing.assert_allclose(grads[0]["weight"], want["grad_w"], rtol=0, atol=1e-12)
    if case["learn_scale"]:
        np.testing.assert_allclose(grads[1]["weight"], want["grad_g"], rtol=0, atol=1e-12)


def test_linen_parameters():
    model = flax.linen.Sequential([flax.linen.Dense(4), flax.linen.LayerNorm()])
    params = model.init(jax.random.key(0), jnp.ones((1, 3), jnp.float32))
    got = jdeq.norm.weight_norm(params, target_norm=0.5)
    layers = got["params"]
    kernel = layers["layers_0"]["kernel"]
    np.testing.assert_allclose(np.linalg.norm(kernel, axis=0), 0.5, rtol=FLOAT32)
    for name in ("layers_0", "layers_1"):  # nothing else changes
        raw = params["params"][name]
        assert all(layers[name][k] is raw[k] for k in raw if k != "kernel")


@pytest.mark.slow
def test_equinox_modules():
    mlp = equinox.nn.MLP(3, 2, 5, 1, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"channel_axis 1 is out of range for 'layers.1.bias'"):
        jdeq.norm.weight_norm(mlp, channel_axis=1, select="layers.1")
    matrices = lambda path, leaf: path.endswith("weight") and path.startswith("layers.1")
    got = jdeq.norm.weight_norm(mlp, channel_axis=0, select=matrices)
    np.testing.assert_allclose(np.linalg.norm(got.layers[1].weight, axis=1), 1, rtol=FLOAT32)
    assert got.layers[0].weight is mlp.layers[0].weight
    everything = jdeq.norm.weight_norm(mlp, channel_axis=0)
    np.testing.assert_allclose(np.linalg.norm(everything.layers[0].weight, axis=1), 1, rtol=FLOAT32)


@pytest.mark.parametrize(
    "axes, others",
    [(-1, (0, 1)), (0, (1, 2)), ((0, 2), (1,)), ((-1, 2), (0, 1)), (lambda p, x: 1, (0, 2))],
)
def test_channel_axes(axes, others):
    kernel = RNG.normal(size=(2, 3, 4))
    got = jdeq.norm.weight_norm({"kernel": jnp.asarray(kernel)}, channel_axis=axes)["kernel"]
    want = kernel / np.sqrt(np.sum(kernel**2, others, keepdims=True))
    np.testing.assert_allclose(got, want, rtol=1e-14)


def test_every_option_does_something():
    kernel = jnp.array([[3.0, 0.01, 0.0], [4.0, 0.0, 0.0]])
    norms = lambda **options: np.linalg.norm(
        jdeq.norm.weight_norm({"kernel": kernel}, **options)["kernel"], axis=0
    )
    np.testing.assert_allclose(norms(), [1, 1, 0], rtol=1e-12)
    np.testing.assert_allclose(norms(target_norm=0.5), [0.5, 0.5, 0], rtol=1e-12)
    np.testing.assert_allclose(norms(clip=2.0), [1, 0.02, 0], rtol=1e-12)
    np.testing.assert_allclose(norms(eps=0.1), [1, 0.01, 0], rtol=1e-12)
    scaled = jdeq.norm.weight_norm({"kernel": kernel}, {"kernel": jnp.array([[7.0, 2.0, 3.0]])})
    np.testing.assert_allclose(np.linalg.norm(scaled["kernel"], axis=0), [7, 2, 0], rtol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, FLOAT16, jnp.float32])
def test_norms_of_narrow_kernels_are_summed_wide(dtype):
    kernel = jnp.asarray(RNG.normal(size=(4096, 2)), dtype)
    got = jdeq.norm.weight_norm({"kernel": kernel})["kernel"]
    assert got.dtype == dtype
    exact = np.asarray(kernel, np.float64)
    exact /= np.linalg.norm(exact, axis=0)
    # the root of a float32 sum, then two operations; a narrow sum would be off by far more
    resolution = rounding(jnp.float32, terms=4096) / 2 + 2 * float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(
        np.asarray(got, np.float64), exact, rtol=resolution, atol=resolution * 1e-3
    )


@pytest.mark.parametrize("scaled", [True, False])
def test_zeros_stay_zero_and_have_finite_gradients(scaled):
    params = {"kernel": jnp.array([[0.0, 3.0], [0.0, 4.0]])}
    scales = jdeq.norm.weight_scales(params) if scaled else None
    loss = lambda *args: jnp.sum(jdeq.norm.weight_norm(*args)["kernel"] ** 3)
    np.testing.assert_array_equal(jdeq.norm.weight_norm(params, scales)["kernel"][:, 0], 0)
    grads = jax.tree.leaves(jax.jit(jax.grad(loss, (0, 1)))(params, scales))
    assert len(grads) == 1 + scaled and all(np.isfinite(g).all() for g in grads)


def test_vmap():
    kernels = jnp.asarray(RNG.normal(size=(5, 3, 4)))
    got = jax.vmap(lambda k: jdeq.norm.weight_norm({"kernel": k})["kernel"])(kernels)
    want = kernels / np.linalg.norm(kernels, axis=1, keepdims=True)
    np.testing.assert_allclose(got, want, rtol=1e-14)


PARAMS = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3), "steps": jnp.ones((), jnp.int32)}


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"target_norm": 0}, ValueError, "target_norm must be > 0, got 0"),
        ({"clip": -1.0}, ValueError, "clip must be > 0, got -1.0"),
        ({"eps": -1e-9}, ValueError, "eps must be >= 0, got -1e-09"),
        ({"channel_axis": 2}, ValueError, "channel_axis 2 is out of range for 'kernel' .*2, 3"),
        ({"select": "kernels"}, ValueError, "select names 'kernels', which is none of .*'kernel'"),
        ({"select": lambda p, x: False}, ValueError, "select matches none of 'bias', 'kernel'"),
        ({"select": "steps"}, TypeError, "'steps' is selected, but is no floating array: int32"),
        ({"scales": {}}, ValueError, "no scale for 'kernel'"),
        (
            {"scales": {"kernel": jnp.ones((1, 3)), "bias": jnp.ones(3)}},
            ValueError,
            "no kernel 'bias'",
        ),
    ],
)
def test_bad_options_are_named(options, error, message):
    with pytest.raises(error, match=message):
        jdeq.norm.weight_norm(PARAMS, **options)


def test_paths_must_tell_leaves_apart():
    ambiguous = {"a": {"kernel": jnp.ones((2, 2))}, "a.kernel": jnp.ones((2, 2))}
    with pytest.raises(ValueError, match="not unique.*'a.kernel'"):
        jdeq.norm.weight_norm(ambiguous)
