import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jdeq
from tests.golden import reference_folder
from zoo.ignn.config import IGNNConfig
from zoo.ignn.layer import ImplicitLayer
from zoo.ignn.matrix import Matrix
from zoo.ignn.spectral import RowSpectralNorm, SingularVector


class One(nnx.Module):
    """A module with one kernel."""

    def __init__(self, kernel):
        self.w = Matrix(kernel)


def normed(told, before) -> Any:
    """The norm of a recorded case, with its parameters."""
    options = {
        "learn_scale": told["learn_scale"],
        "target_norm": told["target_norm"],
        "clip": told["clip_value"] if told["clip"] else None,
    }
    spectral = told["kind"] == "spectral_norm"
    kernel = before["weight_orig" if spectral else "weight_v"].T
    if spectral:
        options["n_power_iterations"] = told["n_power_iterations"]
        norm = RowSpectralNorm(One(jnp.asarray(kernel)), **options)
        for name, axes in (("u", (1, -1)), ("v", (-1, 1))):
            norm.vectors["w"]["kernel"][name][...] = before[f"weight_{name}"].reshape(axes)
    else:
        norm = jdeq.nn.WeightNorm(One(jnp.asarray(kernel)), **options)
    if told["learn_scale"]:
        norm.scales["w"]["kernel"][...] = before["weight_g"].T
    return norm, spectral


@pytest.mark.slow
def test_the_originals():
    folder = reference_folder("ignn/parts")
    cases = json.loads((folder / "config.json").read_text())["norms"]
    close: Any = {"rtol": 1e-10, "atol": 1e-12}
    with np.load(folder / "golden.npz") as golden, jax.enable_x64(True):
        for told in cases:
            start = f"norm/{told['index']}/"
            of = {k.removeprefix(start): golden[k] for k in golden.files if k.startswith(start)}
            before = {k.removeprefix("before/"): a for k, a in of.items() if "before/" in k}
            norm, spectral = normed(told, before)
            if spectral:
                got = norm.fold().w.kernel[...].T
                np.testing.assert_allclose(got, of["weight_eval"], err_msg=start, **close)
            norm.update()
            np.testing.assert_allclose(norm.fold().w.kernel[...].T, of["weight_train"], **close)
            gradient = nnx.grad(lambda norm, r=of["R"]: jnp.sum(norm.fold().w.kernel[...] * r.T))
            made = gradient(norm)
            raw = made["module"]["w"]["kernel"][...].T
            want = of["d/weight_orig" if spectral else "d/weight_v"]
            np.testing.assert_allclose(raw, want, err_msg=start, **close)
            if told["learn_scale"]:
                got = made["scales"]["w"]["kernel"][...].T
                np.testing.assert_allclose(got, of["d/weight_g"], err_msg=start, **close)
            if spectral:
                for name in "uv":
                    got = norm.vectors["w"]["kernel"][name][...].reshape(-1)
                    np.testing.assert_allclose(got, of[f"after/weight_{name}"], **close)


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("learn_scale", [True, False])
def test_vectors_that_measure_less_than_0(learn_scale, clip):
    """The factor is min(clip, g / sigma) there too, hence below 0."""
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)
    norm = RowSpectralNorm(One(kernel), learn_scale=learn_scale, clip=clip, target_norm=0.5)
    u, v = (norm.vectors["w"]["kernel"][name] for name in "uv")
    assert isinstance(u, SingularVector)
    u[...] = -u[...]
    sigma = jnp.sum(kernel * u[...] * v[...])
    assert sigma < 0
    np.testing.assert_allclose(norm.fold().w.kernel[...], kernel * 0.5 / sigma, rtol=1e-5)


@pytest.mark.parametrize("norm_type", ["none", "weight_norm", "spectral_norm"])
def test_zero_weights_have_finite_gradients(norm_type):
    """Weight decay can drive rows to exactly 0, where the original divides 0 by 0."""
    config = IGNNConfig(n_features=3, widths=(4,))
    deq = jdeq.DEQConfig(norm_type=norm_type, norm_clip=norm_type != "none")
    layer: Any = ImplicitLayer(3, 4, config, deq, rngs=nnx.Rngs(0))
    state = nnx.state(layer, nnx.Param)
    nnx.update(layer, jax.tree.map(jnp.zeros_like, state))
    layer.eval()
    plain = lambda layer: layer.plain_weights()
    total = lambda layer: sum(jnp.sum(a) for a in jax.tree.leaves(nnx.state(plain(layer))))
    for leaf in jax.tree.leaves(nnx.grad(total)(layer)):
        assert np.isfinite(leaf).all()
    assert not np.any(plain(layer).w.kernel[...])
