"""`DEQConfig` and `get_deq`: every option changes something, nothing is swallowed."""

import argparse
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq

W = 0.3 * np.random.default_rng(0).normal(size=(4, 4))
X = np.random.default_rng(1).normal(size=(2, 4))


def run(train=True, **options):
    """Everything that a call and its gradient show."""
    layer = jdeq.get_deq(**options)

    def loss(w):
        z, info = layer(lambda z: jnp.tanh(z @ w + X), jnp.zeros_like(X), train=train)
        return layer.correction(lambda z: jnp.sum(z**2), info.states or (z,)), (z, info)

    (value, (z, info)), grad = jax.jit(jax.value_and_grad(loss, has_aux=True))(W)
    return jax.tree.leaves((value, z, grad, info))


def same(a, b):
    return len(a) == len(b) and all(
        x.shape == y.shape and np.array_equal(x, y, equal_nan=True)
        for x, y in zip(a, b, strict=True)
    )


IMPLICIT = {"ift": True, "b_max_iter": 3}
CHANGES = {  # option: (another value, what must be set for it to matter)
    "f_solver": ("anderson", {}),
    "f_max_iter": (2, {}),
    "f_tol": (1e-8, {}),
    "f_stop_mode": ("rel", {"f_tol": 0.14}),
    "f_options": ("tau=0.7", {}),
    "b_solver": ("anderson", IMPLICIT),
    "b_max_iter": (4, IMPLICIT),
    "b_tol": (0.5, IMPLICIT),
    "b_options": ("tau=0.7", IMPLICIT),
    "ift": (True, {}),
    "grad_type": ("jfb", {}),
    "grad": (3, {}),
    "tau": (0.5, {}),
    "sup_gap": (2, {"grad": 5}),
    "sup_loc": ((1, 4), {"grad": 5}),
    "n_states": (3, {}),
    "indexing": ((2, 3), {}),
    "core": ("sliced", {"n_states": 3, "f_solver": "anderson", "f_max_iter": 9}),
    "gamma": (0.3, {"n_states": 3}),
}
ELSEWHERE = {  # where their tests are
    "eval": ("eval_factor", "eval_f_max_iter"),
    "either mode": ("b_stop_mode",),
    "penalty": ("jac_loss_weight", "jac_loss_freq"),
    "tests/nn/test_norms.py": (
        *("norm_type", "norm_no_scale", "norm_target_norm", "norm_clip", "norm_clip_value"),
        "sn_n_power_iters",
    ),
}


def test_every_option_has_a_test():
    covered = {*CHANGES, *(name for names in ELSEWHERE.values() for name in names)}
    assert covered == set(jdeq.DEQConfig().to_dict())


@pytest.mark.slow
@pytest.mark.parametrize("option", CHANGES)
def test_the_option_changes_something(option):
    value, needed = CHANGES[option]
    assert not same(run(**needed), run(**needed | {option: value}))


def test_a_backward_tolerance_is_relative_to_the_cotangent_in_either_mode():
    settings = {"ift": True, "b_tol": 0.05, "b_max_iter": 30}
    assert same(run(True, **settings), run(True, b_stop_mode="abs", **settings))


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"eval_factor": 0.1}, {"eval_f_max_iter": 4}])
def test_evaluation_options(options):
    assert same(run(), run(**options))
    changed = run(train=False, **options)
    assert not same(run(train=False), changed)
    assert (2, 4) in [x.shape for x in changed]  # traces of four iterations


def test_penalty_options():
    f, z, key = lambda z: 0.5 * z, jnp.ones((2, 3)), jax.random.key(0)
    loss = lambda **options: jdeq.get_deq(**options).jac_loss(f, z, key)
    assert loss() == 0 and loss(jac_loss_weight=1.0) > 0
    np.testing.assert_allclose(loss(jac_loss_weight=2.0), 2 * loss(jac_loss_weight=1.0))
    assert loss(jac_loss_weight=1.0, jac_loss_freq=0.0) == 0
    one = jdeq.get_deq().jac_loss(f, z, key, weight=1.0)
    assert one == loss(jac_loss_weight=1.0)


@pytest.mark.parametrize("make", [dict, lambda o: argparse.Namespace(lr=0.1, **o)])
def test_any_kind_of_configuration_which_stays_as_it_is(make):
    options = {"f_solver": "anderson", "f_options": {"m": 3}, "indexing": [3, 6], "grad": [2]}
    given, before = make(options), make(json.loads(json.dumps(options)))
    layer = jdeq.get_deq(given, f_max_iter=7)
    assert given == before
    want = jdeq.DEQConfig(
        f_solver="anderson", f_options="m=3", indexing=(3, 6), grad=2, f_max_iter=7
    )
    assert layer.config == want and hash(layer) == hash(jdeq.get_deq(want))
    assert jdeq.nn.DEQ(lambda z, x: z, given).config == jdeq.get_deq(given).config
    assert jdeq.get_deq().config == jdeq.DEQConfig()


def test_round_trips():
    config = jdeq.DEQConfig(
        **{option: value for option, (value, _) in CHANGES.items() if option not in ALONE},
        grad=(1, 2),
        f_max_iter=9,
    )
    plain = json.loads(json.dumps(config.to_dict()))
    assert jdeq.DEQConfig.from_dict(plain) == config
    parser = jdeq.add_deq_args(argparse.ArgumentParser(), config)
    assert jdeq.DEQConfig.from_args(parser.parse_args([])) == config


ALONE = ("n_states", "grad_type", "sup_gap", "sup_loc", "grad", "f_max_iter")


@pytest.mark.parametrize("text", ["m=5,lam=1e-4,lam_mode=absolute", {"m": 5}, (("m", 5),), ""])
def test_options_of_the_solver(text):
    config = jdeq.DEQConfig(
        f_solver="anderson", b_solver="anderson", f_options=text, b_options=text
    )
    want: dict[str, Any] = {"max_iter": 40, "tol": 1e-3, "stop_mode": "abs", "m": 5 if text else 6}
    if isinstance(text, str) and text:
        want |= {"lam": 1e-4, "lam_mode": "absolute"}
    assert config.solver() == jdeq.Anderson(**want)
    backward = jdeq.DEQConfig.make(config, ift=True).backward()
    assert isinstance(backward, jdeq.IFT) and isinstance(backward.solver, jdeq.Anderson)
    assert backward.solver.m == want["m"]
    assert jdeq.DEQConfig.from_dict(config.to_dict()) == config
    words = jdeq.DEQConfig(f_solver="broyden", f_options="line_search=true,memory=None")
    assert words.solver() == jdeq.Broyden(
        max_iter=40, tol=1e-3, stop_mode="abs", line_search=True, memory=None
    )


def test_options_of_one_call():
    """`deq(f, z0, solver_kwargs={"tau": 0.8, "m": 6})` in TorchDEQ."""
    layer = jdeq.get_deq(f_solver="anderson", f_options="m=2", n_states=2, core="sliced")
    assert layer.config.solver(m=4) == jdeq.Anderson(max_iter=40, tol=1e-3, stop_mode="abs", m=4)
    f = lambda z: jnp.tanh(z @ W + X)
    assert layer(f, jnp.zeros_like(X), max_iter=6, m=1)[1].abs_trace.shape == (2, 6)
    with pytest.raises(TypeError, match="'anderson' has no option 'memory'"):
        layer(f, jnp.zeros_like(X), memory=3)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"f_maxiter": 3}, TypeError, "'f_maxiter' .did you mean 'f_max_iter'"),
        ({"f_solver": "andersen"}, ValueError, "f_solver must be .*did you mean 'anderson'"),
        ({"core": "slices"}, ValueError, "core must be one of 'indexing', 'sliced'"),
        ({"f_tol": "x"}, TypeError, "f_tol must be a number, got 'x'"),
        ({"ift": 1}, TypeError, "ift must be True or False, got 1"),
        ({"grad": 0}, ValueError, "grad must be >= 1, got 0"),
        ({"grad": (1, 2)}, ValueError, "grad must be one number, or 1"),
        ({"grad": (1, 2), "n_states": 2, "ift": True}, ValueError, "grad must be .* or 1"),
        ({"gamma": 2.0}, ValueError, r"gamma must be in \[0, 1\], got 2"),
        ({"indexing": 3}, TypeError, "indexing must be a sequence of ints"),
        ({"sup_gap": 2}, ValueError, "sup_gap=2 is beyond"),
        ({"sup_gap": 2, "sup_loc": (1,), "grad": 3}, ValueError, "sup_gap or sup_loc, not both"),
        ({"sup_loc": (1,), "ift": True}, ValueError, "sup_loc .* not ift"),
        ({"ift": True, "grad_type": "jfb"}, ValueError, "ift and grad_type='jfb'"),
        ({"grad_type": "exact"}, ValueError, "grad_type must be one of 'auto', 'ift'"),
        ({"f_options": "m"}, ValueError, "f_options takes options such as 'm=5,lam=1e-4'"),
        ({"f_options": 3}, TypeError, "f_options takes options such as"),
        ({"f_options": "m=1,m=2"}, ValueError, "f_options sets an option twice"),
        ({"f_options": {"m": [1]}}, TypeError, "f_options: m="),
        ({"f_options": "m=5"}, TypeError, "f_options 'm=5': solver 'fixed_point_iter' has no"),
        ({"f_options": "tol=1"}, ValueError, "f_options: set tol by f_tol"),
        ({"b_options": "m=5"}, TypeError, "b_options 'm=5': solver 'fixed_point_iter' has no"),
        ({"f_solver": "anderson", "f_options": "m=0"}, ValueError, "f_options 'm=0': m must be"),
        ({"hook_ift": True}, TypeError, "'hook_ift': drop it"),
        ({"jac_incremental": 9}, TypeError, "incremental_weight"),
        ({"sradius_mode": True}, TypeError, "spectral_radius"),
    ],
)
def test_mistakes_name_the_option(options, error, message):
    with pytest.raises(error, match=message):
        jdeq.get_deq(options)
    for make in (jdeq.DEQConfig, jdeq.get_deq, jdeq.DEQConfig.make):
        with pytest.raises(error, match=message):
            make(**options)


def test_options_go_by_name():
    """`DEQConfig(args)` in TorchDEQ."""
    with pytest.raises(TypeError, match=r"DEQConfig.make\(args\)"):
        jdeq.DEQConfig({"f_solver": "anderson"})  # pyright: ignore[reportCallIssue]


def test_a_namespace_of_torchdeq():
    """Its parser sets all of its options; those that jdeq has not must be off."""
    theirs = {"hook_ift": False, "sradius_mode": False, "jac_incremental": 0, "grad": [1]}
    theirs |= {"sup_gap": -1, "sup_loc": [], "indexing": [], "core": "sliced"}
    assert jdeq.get_deq(argparse.Namespace(**theirs)).config == jdeq.DEQConfig(core="sliced")
    with pytest.raises(TypeError, match="hook_ift"):
        jdeq.get_deq(argparse.Namespace(**theirs | {"hook_ift": True}))


def test_only_configurations():
    with pytest.raises(TypeError, match="config must be a DEQConfig, a dict or an argparse"):
        jdeq.get_deq("anderson")  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
def test_evaluation_makes_no_phantom_steps():
    """As in TorchDEQ; nor do they change the state there, with gradients or without."""
    f = lambda a: lambda z: a * z + X
    z0 = jnp.zeros_like(X)
    for options in ({"grad": 3, "tau": 0.5}, {"grad": (1, 3), "n_states": 2, "core": "sliced"}):
        layer = jdeq.get_deq(options, f_max_iter=6, f_tol=0)
        alone, info = jdeq.deq(f(0.5), z0, max_iter=6, tol=0)
        z, evaluated = layer(f(0.5), z0, train=False)
        np.testing.assert_array_equal(z, alone)
        assert evaluated.nfe == info.nfe == 7 and evaluated.states == ()
        assert layer(f(0.5), z0)[1].nfe > 7
    slope = jax.grad(lambda a: layer(f(a), z0, train=False)[0].sum())(0.5)
    np.testing.assert_allclose(slope, jnp.sum(4 * X), rtol=1e-1)  # the implicit gradient


def test_evaluation_of_an_unrolled_model():
    """Its steps are the model; TorchDEQ hands z0 back unless eval_f_max_iter is set."""
    layer = jdeq.get_deq(f_max_iter=0, grad=4)
    f, z0 = lambda z: 0.5 * z + X, jnp.zeros_like(X)
    for train in (True, False):
        np.testing.assert_allclose(layer(f, z0, train=train)[0], (2 - 0.5**3) * X, rtol=1e-12)
    solved = jdeq.get_deq(layer.config, eval_f_max_iter=2)
    np.testing.assert_allclose(solved(f, z0, train=False)[0], 1.5 * X, rtol=1e-12)
    np.testing.assert_allclose(layer(f, z0, train=False, max_iter=2)[0], 1.5 * X, rtol=1e-12)
