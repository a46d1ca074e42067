"""Code that was written for TorchDEQ is told what to write instead."""

import functools
from typing import Any

import jax.numpy as jnp
import pytest
from flax import nnx

import jdeq
from jdeq.solvers.registry import SOLVERS


@pytest.mark.parametrize(
    "name, write",
    [
        ("rel_lowest", "write info.rel_residual"),
        ("abs_lowest", "write info.abs_residual"),
        ("nstep", "write info.steps"),
        ("abs_trace", "write info.abs_trace"),
        ("sradius", "it has abs_residual, .*, status"),
    ],
)
def test_statistics_by_key(name, write):
    _, info = jdeq.deq(lambda z: 0.5 * z + 1, jnp.zeros((2, 1)))
    with pytest.raises(TypeError, match=write):
        info[name]
    assert info[0] is info.abs_residual and len(info[:2]) == 2


def test_no_gradient_is_good_without_a_reference():
    f = lambda p, z: z + z**2 + p  # no fixed point
    found = jdeq.check_gradient(f, jnp.zeros((1, 1)), jnp.sum, jnp.ones((1, 1)), rtol=1e9)
    assert not found.good and "no reference" in found.verdict


ONE, PAIR = jnp.zeros((2, 1)), (jnp.zeros((2, 1)), jnp.zeros((2, 3)))


@pytest.mark.parametrize(
    "f, z0, message",
    [
        (lambda h, c: (c, h), PAIR, r"2 arguments \(h, c\), but is called as f\(z\): .*f\(\*z\)"),
        (
            lambda h, c: (c, h),
            list(PAIR),
            r"the state is one argument, so pass `lambda z: f\(\*z\)",
        ),
        (lambda z, x: z + x, ONE, r"\(z, x\), .*close over .*`lambda z: f\(z, x\)`"),
        (functools.partial(lambda x, z, y: z, 1), ONE, r"takes 2 arguments \(z, y\)"),
        (lambda: 1, ONE, r"takes 0 arguments \(\), but is called as f\(z\)"),
        (lambda *, z: z, ONE, r"takes 1 arguments \(z\)"),
    ],
)
def test_f_of_something_else_than_the_state(f, z0, message):
    for solve in (jdeq.deq, jdeq.get_deq()):
        with pytest.raises(TypeError, match=message):
            solve(f, z0)


def test_f_of_the_state_and_more():
    f = lambda h, c: (0.5 * h + 1, 0.5 * c)
    assert jdeq.deq(lambda z: f(*z), PAIR)[1].converged.all()
    for f in (lambda z, a=0.5: a * z, lambda *z: 0.5 * z[0], jnp.tanh, nnx.tanh):
        jdeq.deq(f, ONE)


def test_a_type_error_within_f_is_its_own():
    def f(z):
        inner: Any = lambda h, c: h
        return inner(z)

    with pytest.raises(TypeError, match="missing 1 required positional argument: 'c'"):
        jdeq.deq(f, ONE)


@pytest.mark.parametrize(
    "options, write",
    [
        ({"solver_kwargs": {"m": 6}}, r"'solver_kwargs': write its entries themselves, .*m=6"),
        ({"l_thres": 6}, "'l_thres': write memory"),
        ({"sradius_mode": True}, "call jdeq.spectral_radius"),
    ],
)
def test_options_of_a_call(options, write):
    for solve in (jdeq.deq, jdeq.get_deq()):
        with pytest.raises(TypeError, match=write):
            solve(lambda z: 0.5 * z, ONE, **options)


def test_solver_options_in_a_configuration():
    options: Any = {"solver_kwargs": {"m": 6}}
    for make in (jdeq.get_deq, jdeq.DEQConfig):
        with pytest.raises(TypeError, match="'solver_kwargs': its entries are f_options"):
            make(**options)


@pytest.mark.slow
def test_a_norm_that_nothing_could_be_applied_to():
    config = jdeq.DEQConfig(norm_type="weight_norm")
    with pytest.raises(ValueError, match=r"norm_type='weight_norm': .*jdeq.nn.DEQ\(cell, config\)"):
        jdeq.get_deq(config)
    cell = config.norm(nnx.Linear(1, 1, rngs=nnx.Rngs(0)))
    solve = jdeq.get_deq(config, norm_type="none")
    assert solve(lambda z: 0.3 * cell(z) + 1, jnp.zeros((2, 1), jnp.float32))[1].converged.all()


def test_the_output_is_the_state_and_info_has_the_list():
    f = lambda z: 0.5 * z + 1
    z, info = jdeq.get_deq(n_states=3, f_max_iter=30)(f, jnp.zeros((2, 1)))
    assert z.shape == (2, 1) and len(info.states) == 3 and (info.states[-1] == z).all()


def test_a_solver_of_ones_own_may_have_any_option():
    class Mine(jdeq.FixedPointIter):
        def __init__(self, l_thres=1, **options):
            super().__init__(**options)

    jdeq.register_solver("mine", Mine, overwrite=True)
    try:
        _, info = jdeq.deq(lambda z: 0.5 * z + 1, jnp.zeros((1, 1)), solver="mine", l_thres=3)
    finally:
        del SOLVERS.entries["mine"]
    assert info.converged.all()
