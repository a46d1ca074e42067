"""Norms by name: options, the command line and norms of one's own."""

import argparse
import functools

import numpy as np
import pytest

import jdeq
from jdeq.kernel_norms.registry import NORMS

from .cells import WRAPPERS, Cell, X, layer, names

OPTIONS = {  # what an option changes in the wrapper
    "norm_no_scale": (True, lambda norm: len(norm.scales)),
    "norm_target_norm": (0.5, lambda norm: norm.target_norm),
    "norm_clip": (True, lambda norm: norm.clip),
    "norm_clip_value": (0.5, lambda norm: norm.clip),
}


@names
@pytest.mark.parametrize("option", OPTIONS)
def test_options_reach_the_norm(name, option):
    value, seen = OPTIONS[option]
    base = {"norm_clip": True} if option == "norm_clip_value" else {}
    before, after = layer(name, **base).cell, layer(name, **base | {option: value}).cell
    assert type(after) is WRAPPERS[name]
    assert seen(before) != seen(after)


def test_power_iterations_reach_the_norm():
    assert layer("spectral_norm", sn_n_power_iters=3).cell.n_power_iterations == 3
    assert layer("weight_norm", sn_n_power_iters=3).cell  # an option of another norm
    with pytest.raises(ValueError, match="sn_n_power_iters must be >= 1, got 0"):
        jdeq.DEQConfig(sn_n_power_iters=0)


def test_command_line():
    parser = jdeq.add_deq_args(argparse.ArgumentParser())
    line = "--norm_type spectral_norm --norm_clip --norm_clip_value 0.9 --norm_no_scale"
    config = jdeq.DEQConfig.from_args(parser.parse_args([*line.split(), "--sn_n_power_iters", "2"]))
    norm = config.norm(Cell())
    assert (norm.clip, norm.n_power_iterations, len(norm.scales)) == (0.9, 2, 0)
    assert jdeq.DEQConfig.from_dict(config.to_dict()) == config
    assert "weight_norm, spectral_norm" in " ".join(parser.format_help().split())


class Scaled(jdeq.nn.KernelNorm):
    """A norm of one's own: a constant factor."""

    def __init__(self, module, *, target_norm=1.0):
        super().__init__(module)
        self.target_norm = target_norm

    def normalise(self, kernels):
        return {path: self.target_norm * kernel for path, kernel in kernels.items()}


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(NORMS, "entries", dict(NORMS.entries))


@pytest.mark.usefixtures("registry")
class TestRegistration:
    def test_a_registered_norm_is_accepted_by_name(self):
        with pytest.raises(ValueError, match="norm_type must be one of 'none', 'weight_norm'"):
            jdeq.DEQConfig(norm_type="scaled")
        jdeq.register_norm("scaled", Scaled)
        deq = layer("scaled", norm_target_norm=0.25)
        raw = deq.cell.module.linear.kernel[...]
        np.testing.assert_allclose(deq.cell.fold().linear.kernel[...], raw / 4, rtol=1e-6)
        assert np.all(deq(X)[1].converged)

    def test_an_option_that_it_does_not_take(self):
        jdeq.register_norm("scaled", Scaled)
        for options in ({"norm_clip": True}, {"norm_no_scale": True}):
            with pytest.raises(TypeError, match=f"{next(iter(options))}=True has no effect"):
                layer("scaled", **options)

    def test_names(self):
        with pytest.raises(ValueError, match="'weight_norm' is registered already.*overwrite"):
            jdeq.register_norm("weight_norm", Scaled)
        with pytest.raises(ValueError, match="'none' stands for no norm"):
            jdeq.register_norm("none", Scaled)
        jdeq.register_norm("weight_norm", Scaled, overwrite=True)
        assert isinstance(layer("weight_norm").cell, Scaled)

    def test_a_partial_keeps_what_it_fixes(self):
        jdeq.register_norm("mine", functools.partial(jdeq.nn.SpectralNorm, clip=0.5))
        assert layer("mine", norm_target_norm=2.0).cell.clip == 0.5
        assert layer("mine", norm_target_norm=2.0).cell.target_norm == 2
        with pytest.raises(TypeError, match="norm_clip=True has no effect"):
            layer("mine", norm_clip=True)

    def test_a_factory_that_makes_something_else(self):
        jdeq.register_norm("odd", lambda module: module)
        with pytest.raises(TypeError, match="'odd' made a Cell, not a KernelNorm"):
            layer("odd")
