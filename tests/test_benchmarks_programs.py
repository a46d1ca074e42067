"""What solves ask of a device's host, counted in their programs."""

import pytest

from benchmarks.programs import FORWARD, arguments, count, forward, gradient

ITERATIVE = [name for name in FORWARD if name.startswith(("fixed", "anderson", "broyden"))]


@pytest.mark.parametrize("name", ITERATIVE)
def test_an_accelerator_is_asked_once_per_iteration(name):
    asked = count(forward(name), *arguments(), platform="cuda")
    assert asked.loops == 1 and asked.branches == 0 and asked.host == 0
    assert asked.products == (8 if "check_every=8" in name else 1)


@pytest.mark.parametrize(
    ("name", "loops", "branches"),
    [  # with those of the solve, plain iteration
        ("IFT: fixed_point_iter", 2, 0),
        ("IFT: fixed_point_iter, check_every=8", 2, 0),
        ("IFT: anderson", 2, 0),
        ("IFT: broyden", 2, 0),
        ("IFT: gmres", 3, 1),  # products, in cycles; none is opened for nothing
        ("IFT: auto, the default", 4, 1),  # plain iterations before
        ("phantom", 1, 0),
        ("jfb", 1, 0),
        ("shine", 1, 0),
        ("unroll", 0, 0),
    ],
)
def test_a_gradient_asks_once_per_iteration_too(name, loops, branches):
    asked = count(gradient(name), *arguments(), platform="cuda")
    assert (asked.loops, asked.branches, asked.host) == (loops, branches, 0)
    assert asked.nested <= 2


def test_a_cpu_leaves_out_what_is_not_filled():
    asked = count(forward("broyden"), *arguments(), platform="cpu")
    assert asked.branches > 0
