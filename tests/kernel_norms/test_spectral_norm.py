"""Spectral normalisation of modules: every kind of kernel, training and evaluation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jdeq

from ..golden import fields, load, load_cases
from ..norm.test_spectral import largest_singular_value
from .test_weight_norm import KINDS, Net

WEIGHTS, CASES = load("spectral_norm"), load_cases("spectral_norm")
DOUBLE = {"param_dtype": jnp.float64, "rngs": nnx.Rngs(0)}
MODULES = {  # how to make it, and where the axes of PyTorch's weight go
    "linear": (lambda: nnx.Linear(7, 5, **DOUBLE), (1, 0)),
    "conv2d": (lambda: nnx.Conv(3, 4, (3, 3), **DOUBLE), (2, 3, 1, 0)),
    "convtranspose2d": (lambda: nnx.ConvTranspose(3, 4, (3, 3), **DOUBLE), (2, 3, 0, 1)),
}


def set_vectors(norm, u, v):
    """TorchDEQ's flat vectors; v is ordered (in, spatial...)."""
    kernel = norm.module.kernel
    *spatial, n_in, n_out = kernel.shape
    v = np.moveaxis(v.reshape(n_in, *spatial), 0, -1)[..., None]
    norm.vectors["kernel"]["u"].set_value(jnp.asarray(u.reshape([1] * (kernel.ndim - 1) + [n_out])))
    norm.vectors["kernel"]["v"].set_value(jnp.asarray(v))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["prefix"])
def test_torchdeq(case):
    make, axes = MODULES[case["module"]]
    want = fields(WEIGHTS, case["prefix"])
    want |= {k: v.transpose(axes) for k, v in want.items() if v.ndim == len(axes)}
    module = make()
    module.kernel.set_value(jnp.asarray(want["w"]))
    norm = jdeq.nn.SpectralNorm(
        module,
        learn_scale=case["learn_scale"],
        per_channel=case["learn_scale"],
        target_norm=case["target_norm"],
        clip=case["clip_value"] if case["clip"] else None,
        n_power_iterations=case["n_power_iterations"],
    )
    close = lambda got, name: np.testing.assert_allclose(got, want[name], rtol=0, atol=1e-12)
    set_vectors(norm, want["u0"], want["v0"])
    if case["learn_scale"]:
        close(norm.scales["kernel"][...], "g_init")
        norm.scales["kernel"].set_value(jnp.asarray(want["g"]))

    def loss(norm):
        norm.update()
        kernel = norm.fold().kernel[...]
        return jnp.sum(kernel * want["cotangent"]), kernel

    grads, kernel = nnx.grad(loss, has_aux=True)(norm)
    close(kernel, "w_eff")
    close(grads["module"]["kernel"][...], "grad_w")
    if case["learn_scale"]:
        close(grads["scales"]["kernel"][...], "grad_g")
    close(norm.vectors["kernel"]["u"][...].ravel(), "u1")
    close(np.moveaxis(norm.vectors["kernel"]["v"][...][..., 0], -1, 0).ravel(), "v1")

    norm.eval()
    norm.update()
    close(norm.fold().kernel[...], "w_eff_eval")
    close(norm.fold().kernel[...], "w_removed")
    close(norm.vectors["kernel"]["u"][...].ravel(), "u_after_eval")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_norm_of_every_kind_of_kernel(kind):
    layer, others = KINDS[kind]
    double = nnx.clone(layer)
    double.kernel.set_value(layer.kernel[...].astype(jnp.float64))
    norm = jdeq.nn.SpectralNorm(double, target_norm=0.7, n_power_iterations=3000)
    nnx.jit(lambda n: n.update())(norm)
    channels = tuple(i for i in range(double.kernel[...].ndim) if i not in others)
    size = largest_singular_value(norm.fold().kernel[...], channels)
    np.testing.assert_allclose(size, 0.7, rtol=1e-6)


@pytest.mark.slow
def test_every_kernel_of_a_nested_module_is_covered():
    net = Net(nnx.Rngs(0))
    norm = jdeq.nn.SpectralNorm(net, filter_out="blocks.1", n_power_iterations=500)
    assert set(norm.paths) == {f"attention.{n}" for n in ("query", "key", "value", "out")} | {
        "blocks.0"
    }
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 8)), jnp.float32)
    assert norm(x).shape == x.shape
    folded = norm.fold()
    sizes = [
        largest_singular_value(folded.attention.query.kernel[...], (1, 2)),
        largest_singular_value(folded.attention.out.kernel[...], (2,)),
        largest_singular_value(folded.blocks[0].kernel[...], (1,)),
    ]
    np.testing.assert_allclose(sizes, 1, rtol=1e-5)
    np.testing.assert_array_equal(folded.blocks[1].kernel[...], net.blocks[1].kernel[...])


def linear(dtype=jnp.float64, seed=0):
    return nnx.Linear(5, 4, param_dtype=dtype, rngs=nnx.Rngs(seed))


def copy(state):
    return jax.tree.map(jnp.copy, state)


def test_training_moves_the_vectors_and_evaluation_does_not():
    x = jnp.ones((2, 5))
    norm = jdeq.nn.SpectralNorm(linear())
    norm.module.kernel.set_value(linear(seed=1).kernel[...])  # as an optimiser would
    call = nnx.jit(lambda norm, x: norm(x))
    variables: Any = nnx.state(norm, jdeq.nn.PowerIteration)
    assert len(jax.tree.leaves(variables)) == 2
    start = copy(variables)

    norm.eval()
    call(norm, x)
    norm.fold()
    jax.tree.map(np.testing.assert_array_equal, nnx.state(norm, jdeq.nn.PowerIteration), start)
    norm.train()
    norm.fold()
    jax.tree.map(np.testing.assert_array_equal, nnx.state(norm, jdeq.nn.PowerIteration), start)
    for _ in range(300):
        call(norm, x)
    assert np.linalg.norm(norm.fold().kernel[...], ord=2) == pytest.approx(1, rel=1e-9)
    raw = norm.module.kernel[...]
    np.testing.assert_array_equal(raw, linear(seed=1).kernel[...])  # never written


def test_the_vectors_are_no_parameters():
    norm = jdeq.nn.SpectralNorm(linear())
    paths = {path[0] for path, _ in nnx.to_flat_state(nnx.state(norm, nnx.Param))}
    assert paths == {"module", "scales"}


def test_state_round_trip():
    norm = jdeq.nn.SpectralNorm(linear(), n_power_iterations=3)
    norm(jnp.ones((2, 5)))
    graphdef, state = nnx.split(norm)
    other = jdeq.nn.SpectralNorm(linear(seed=2), n_power_iterations=3)
    nnx.update(other, jax.tree.map(jnp.asarray, jax.device_get(state)))
    np.testing.assert_array_equal(other.fold().kernel[...], norm.fold().kernel[...])
    assert nnx.graphdef(other) == graphdef and hash(nnx.graphdef(other)) == hash(graphdef)


def test_every_option_does_something():
    module = nnx.Linear(3, 3, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    module.kernel.set_value(jnp.diag(jnp.array([4.0, 2.0, 1.0])))
    make = lambda **options: jdeq.nn.SpectralNorm(nnx.clone(module), **options)
    kernel = lambda **options: np.diagonal(make(**options).fold().kernel[...])
    np.testing.assert_allclose(kernel(), [1, 0.5, 0.25], rtol=1e-9)
    np.testing.assert_allclose(kernel(target_norm=3.0), [3, 1.5, 0.75], rtol=1e-9)
    np.testing.assert_allclose(kernel(target_norm=None), [4, 2, 1], rtol=1e-12)
    np.testing.assert_allclose(kernel(clip=0.1), [0.4, 0.2, 0.1], rtol=1e-12)
    np.testing.assert_allclose(kernel(eps=9.0), [4, 2, 1], rtol=1e-12)
    assert make().scales["kernel"].shape == (1, 1)
    assert make(per_channel=True).scales["kernel"].shape == (1, 3)
    assert len(make(learn_scale=False).scales) == 0
    one, many = make(), make(n_power_iterations=10)
    for norm in (one, many):
        norm.module.kernel.set_value(jnp.diag(jnp.array([1.0, 2.0, 4.0])))
        norm.vectors["kernel"]["u"].set_value(jnp.array([[0.9, 0.3, 0.3]]))
        norm.update()
    size = lambda norm: np.linalg.norm(norm.fold().kernel[...], ord=2)
    assert size(one) > size(many) == pytest.approx(1, rel=1e-5)


def test_a_learned_scale_is_the_norm():
    norm = jdeq.nn.SpectralNorm(linear(), n_power_iterations=300)
    norm.scales["kernel"].set_value(jnp.full((1, 1), 2.5))
    norm.update()
    assert np.linalg.norm(norm.fold().kernel[...], ord=2) == pytest.approx(2.5, rel=1e-9)


@pytest.mark.parametrize("options", [{}, {"learn_scale": False}, {"per_channel": True}])
def test_a_zero_kernel_stays_zero(options):
    module = linear()
    module.kernel.set_value(jnp.zeros((5, 4)))
    norm = jdeq.nn.SpectralNorm(module, **options)
    grads = nnx.grad(lambda n: jnp.sum(jnp.exp(n(jnp.ones((1, 5))))))(norm)
    np.testing.assert_array_equal(norm.fold().kernel[...], 0)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(nnx.state(norm)))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_dtypes(dtype):
    norm = jdeq.nn.SpectralNorm(linear(dtype))
    norm.update()
    assert norm.fold().kernel[...].dtype == norm.scales["kernel"][...].dtype == dtype
    wide = jnp.float64 if dtype == jnp.float64 else jnp.float32
    assert {norm.vectors["kernel"][n][...].dtype for n in ("u", "v")} == {jnp.dtype(wide)}


@pytest.mark.slow
def test_remat_and_vmap():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 5)))
    norm = jdeq.nn.SpectralNorm(linear())
    norm.eval()
    plain = norm.fold()
    np.testing.assert_allclose(jax.vmap(norm)(x), plain(x), rtol=1e-12)
    graphdef, state = nnx.split(norm)
    loss = lambda state, x: jnp.sum(nnx.merge(graphdef, state)(x) ** 2)
    want = jax.grad(loss)(state, x)
    got = jax.grad(jax.checkpoint(loss))(state, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), got, want)

    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def create(rngs):
        return jdeq.nn.SpectralNorm(nnx.Linear(5, 4, param_dtype=jnp.float64, rngs=rngs))

    stack = create(nnx.Rngs(0))
    assert stack.vectors["kernel"]["u"].shape == (3, 1, 4)
    out = nnx.vmap(lambda norm, x: norm(x))(stack, x)
    np.testing.assert_allclose(out, nnx.vmap(lambda n, x: n.fold()(x))(stack, x), rtol=1e-12)


def test_remat_in_training_updates_once():
    x = jnp.ones((2, 5))
    norm, same = (jdeq.nn.SpectralNorm(linear()) for _ in range(2))
    for n in (norm, same):
        n.module.kernel.set_value(linear(seed=3).kernel[...])
    nnx.grad(lambda n: jnp.sum(nnx.remat(lambda n, x: n(x))(n, x)))(norm)
    same.update()
    np.testing.assert_allclose(
        norm.vectors["kernel"]["u"][...], same.vectors["kernel"]["u"][...], rtol=1e-12
    )


@pytest.mark.parametrize(
    "options, message",
    [
        ({"target_norm": 0}, "target_norm must be > 0, got 0"),
        ({"clip": -1.0}, "clip must be > 0, got -1.0"),
        ({"eps": -1.0}, "eps must be >= 0, got -1.0"),
        ({"n_power_iterations": 0}, "n_power_iterations must be >= 1, got 0"),
        ({"filter_out": "head"}, "filter_out names 'head'"),
        ({"filter_out": nnx.Linear}, "Linear has no kernel"),
        ({"learn_scale": False, "target_norm": None}, "target_norm=None is for a learned scale"),
        ({"learn_scale": False, "per_channel": True}, "per_channel=True is for a learned scale"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        jdeq.nn.SpectralNorm(linear(), **options)


@pytest.mark.slow
def test_a_module_that_cannot_be_written_to():
    norm = jdeq.nn.SpectralNorm(linear())
    with pytest.raises(TypeError, match="pass it as an argument.*module.eval()"):
        jax.jit(norm)(jnp.ones((2, 5)))
    square = jdeq.nn.SpectralNorm(nnx.Linear(4, 4, rngs=nnx.Rngs(0)))
    with pytest.raises(TypeError, match="closed over by .* a solve.*fold it before"):
        jdeq.deq(lambda z: square(z), jnp.zeros((2, 4)))
    norm.eval()
    assert jax.jit(norm)(jnp.ones((2, 5))).shape == (2, 4)
