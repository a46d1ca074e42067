"""Mistakes in configurations, layers and registrations are told by name."""

import argparse
from typing import Any

import jax.numpy as jnp
import pytest
from flax import nnx

import jdeq
from jdeq.backward.registry import BACKWARDS
from jdeq.kernel_norms.registry import NORMS
from jdeq.solvers.registry import SOLVERS

from .cases import cases, halve


@pytest.mark.parametrize(
    "register, registry, name, factory",
    [
        (jdeq.register_solver, SOLVERS, "broyden", jdeq.Anderson),
        (jdeq.register_backward, BACKWARDS, "ift", jdeq.JFB),
    ],
    ids=["solver", "backward"],
)
def test_a_taken_name(register, registry, name, factory, monkeypatch):
    monkeypatch.setattr(registry, "entries", dict(registry.entries))
    with pytest.raises(ValueError, match=f"'{name}' is registered already.*overwrite=True"):
        register(name, factory)
    register(name, factory, overwrite=True)
    assert isinstance(registry.resolve(name, {}), factory)


@pytest.mark.parametrize("overwrite", [False, True])
def test_names_that_cannot_be_registered(overwrite, monkeypatch):
    """A name that means something else, wherever one is named, would never be found."""
    for registry in (SOLVERS, BACKWARDS, NORMS):
        monkeypatch.setattr(registry, "entries", dict(registry.entries))
    names: Any = (
        (jdeq.register_backward, "auto", ValueError, "the backward 'auto' .*cannot be registered"),
        (jdeq.register_norm, "none", ValueError, "the norm 'none' .*cannot be registered"),
        (jdeq.register_solver, "", TypeError, "name of a solver must be a word, got ''"),
        (jdeq.register_solver, jdeq.Anderson, TypeError, "name of a solver must be a word"),
    )
    for register, name, error, message in names:
        with pytest.raises(error, match=message):
            register(name, jdeq.JFB, overwrite=overwrite)
    with pytest.raises(TypeError, match="solver 'mine' must be a class or function, got 3"):
        jdeq.register_solver("mine", 3, overwrite=overwrite)  # pyright: ignore[reportArgumentType]


def test_a_factory_that_makes_something_else(monkeypatch):
    monkeypatch.setattr(SOLVERS, "entries", dict(SOLVERS.entries))
    jdeq.register_solver("mine", lambda max_iter=3: max_iter)
    with pytest.raises(TypeError, match="'mine' made 3, not a Solver"):
        jdeq.deq(halve, jnp.ones(2), solver="mine")


@cases(
    "options, error, message",
    [
        ({"f_solver": "andersen"}, ValueError, "f_solver must be one of .*'anderson'"),
        ({"b_solver": "xyz"}, ValueError, "b_solver must be one of .*'broyden'.*got 'xyz'"),
        ({"f_stop_mode": "l2"}, ValueError, "f_stop_mode must be one of 'abs', 'rel'; got 'l2'"),
        ({"b_stop_mode": "l2"}, ValueError, "b_stop_mode must be one of"),
        ({"norm_type": "batch"}, ValueError, "norm_type must be one of .*'weight_norm'"),
        ({"f_max_iter": -1}, ValueError, "f_max_iter must be >= 0, got -1"),
        ({"f_max_iter": 3.0}, TypeError, "f_max_iter must be an int, got 3.0"),
        ({"b_max_iter": "9"}, TypeError, "b_max_iter must be an int, got '9'"),
        ({"eval_f_max_iter": -1}, ValueError, "eval_f_max_iter must be >= 0"),
        ({"grad": 0}, ValueError, "grad must be >= 1, got 0"),
        ({"n_states": 0}, ValueError, "n_states must be >= 1, got 0"),
        ({"f_tol": -1e-3}, ValueError, "f_tol must be >= 0, got -0.001"),
        ({"b_tol": -1}, ValueError, "b_tol must be >= 0, got -1"),
        ({"eval_factor": 0}, ValueError, "eval_factor must be > 0"),
        ({"tau": 0}, ValueError, "tau must be"),
        ({"tau": 3}, ValueError, "tau must be"),
        ({"norm_target_norm": 0}, ValueError, "norm_target_norm must be > 0"),
        ({"norm_clip_value": -1}, ValueError, "norm_clip_value must be > 0"),
        ({"indexing": (5, 3)}, ValueError, "indexing must ascend"),
        ({"indexing": (3,), "f_max_iter": 2}, ValueError, "indexing .*beyond"),
        ({"n_states": 9, "f_max_iter": 2}, ValueError, "n_states=9"),
        ({"n_states": 2, "indexing": (3,)}, ValueError, "n_states or indexing"),
        ({"f_maxiter": 3}, TypeError, "f_maxiter"),
    ],
)
def test_configuration_names_the_option(options, error, message):
    with pytest.raises(error, match=message):
        jdeq.DEQConfig(**options)
    with pytest.raises(error, match=message):
        jdeq.DEQConfig.from_dict(options)


@pytest.mark.parametrize(
    "line, message",
    [("--f_max_iter x", "--f_max_iter: invalid int"), ("--f_maxiters 3", "unrecognized")],
)
def test_command_line_options(line, message, capsys):
    parser = jdeq.add_deq_args(argparse.ArgumentParser())
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(line.split())
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_layers():
    with pytest.raises(TypeError, match="weight_norm needs a cell that is an nnx.Module"):
        jdeq.nn.DEQ(halve, jdeq.DEQConfig(norm_type="weight_norm"))
    with pytest.raises(TypeError, match="start state is unknown: pass z0"):
        jdeq.nn.DEQ(lambda z, x: z)({"a": jnp.ones(2)})
    linear = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="target_norm must be > 0, got 0"):
        jdeq.nn.WeightNorm(linear, learn_scale=False, target_norm=0)
    with pytest.raises(ValueError, match="clip must be > 0, got -1"):
        jdeq.nn.WeightNorm(linear, clip=-1)
    with pytest.raises(ValueError, match="Linear has no kernel to normalise"):
        jdeq.nn.WeightNorm(linear, filter_out=nnx.Linear)
