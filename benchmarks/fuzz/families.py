"""Families of problems: how their parameters are drawn, and what is known of the answer."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from . import answers, draws, matrices
from .formulas import Params


@dataclasses.dataclass(frozen=True)
class Family:
    """`tame`: f contracts, so no solver has an excuse for a state that is not finite."""

    name: str
    formula: str
    draw: Callable[[draws.Random, int, int], Params]
    answer: Callable[[Params], answers.Answer]
    tame: bool = False
    symmetric: bool = False
    narrowest: int = 1


def affine(name: str, w: Callable[[draws.Random, int, int], np.ndarray], **kinds: Any) -> Family:
    draw = lambda rng, batch, n: {"w": w(rng, batch, n), "b": rng.normal(size=(batch, n))}
    return Family(name, "affine", draw, answers.linear, **kinds)


def scalar(
    name: str, formula: str, answer: Callable[[Params], answers.Answer], **parameters: Any
) -> Family:
    """Of independent unknowns; `parameters`: how each is drawn, from (rng, shape)."""
    draw = lambda rng, batch, n: {k: d(rng, (batch, n)) for k, d in parameters.items()}
    return Family(name, formula, draw, answer)


def _net(name: str, formula: str) -> Family:
    draw = lambda rng, batch, n: {
        "w": matrices.normed(rng, batch, n, 0.1, 0.95),
        "b": rng.normal(size=(batch, n)),
    }
    return Family(name, formula, draw, answers.contracting(formula), tame=True)


SOLVABLE = (
    affine(
        "contracting, symmetric",
        lambda rng, b, n: matrices.symmetric(rng, rng.uniform(-0.95, 0.95, (b, n))),
        tame=True,
        symmetric=True,
    ),
    affine("contracting", lambda rng, b, n: matrices.normed(rng, b, n, 0.1, 0.95), tame=True),
    affine("radius 0.999", draws.one_near(0.999), symmetric=True),
    affine("eigenvalue 1.001", draws.one_near(1.001)),
    affine(
        "far below 0",
        lambda rng, b, n: matrices.symmetric(rng, rng.uniform(-4, 0.5, (b, n))),
        symmetric=True,
    ),
    affine("indefinite", lambda rng, b, n: matrices.symmetric(rng, draws.indefinite(rng, b, n))),
    affine(
        "non-normal",
        lambda rng, b, n: matrices.triangular(rng, rng.uniform(-0.8, 0.8, (b, n)), 5),
        narrowest=2,
    ),
    affine("rotation", lambda rng, b, n: 0.999 * matrices.rotation(rng, b, n, 0.9, 1)),
    Family(
        "huge solution", "affine", lambda r, b, n: draws.near_one(r, b, n, (1, -1)), answers.linear
    ),
    Family(
        "singular I - J, solvable",
        "affine",
        lambda rng, b, n: draws.null(rng, b, n, rng.choice((-1, 0, 0.5), (b, n - 1)), 0),
        answers.solvable_though_singular,
    ),
    Family("z* = 0, affine", "affine", draws.at_zero, answers.linear, tame=True),
    Family("z* = 0, tanh", "tanh", draws.at_zero, answers.contracting("tanh"), tame=True),
    _net("tanh", "tanh"),
    _net("relu", "relu"),
    scalar(
        "cubic",
        "cubic",
        answers.cubic,
        a=draws.spread(-1, 0.5),
        b=draws.uniform(-2, 2),
        c=draws.uniform(0.5, 2),
    ),
    scalar(
        "a |z| + b",
        "absolute",
        answers.absolute,
        a=draws.uniform(-0.95, 0.95),
        b=draws.uniform(-2, 2),
    ),
    scalar("|z| - b", "absolute", answers.absolute, a=draws.constant(1), b=draws.uniform(-2, -0.5)),
    scalar("sqrt(z) + b", "square root", answers.square_root, b=draws.uniform(0.1, 3)),
    scalar("exp(z) - b", "exp", answers.exp, b=draws.uniform(1.5, 5)),
    scalar("sqrt(z^2 + 1) - b", "hyperbola", answers.hyperbola, b=draws.uniform(-1.5, -0.1)),
    scalar("z^2 - b", "square", answers.square, b=draws.uniform(-3, 0)),
)
UNSOLVABLE = (
    scalar("z + b", "shift", answers.beyond_b, b=draws.spread(-0.5, 1)),
    scalar(
        "z + b, tiny",
        "shift",
        answers.beyond_b,
        b=draws.spread(-5, -3),
    ),
    scalar("z + b, huge", "shift", answers.beyond_b, b=draws.spread(3, 6)),
    Family(
        "singular I - J",
        "affine",
        lambda rng, b, n: draws.null(rng, b, n, draws.sixteenths(rng, -2, 0.8, (b, n - 1)), 1),
        answers.none(answers.inconsistent_floor),
    ),
    Family(
        "J = I",
        "affine",
        lambda rng, b, n: {
            "w": np.tile(np.eye(n), (b, 1, 1)),
            "b": draws.spread(-0.5, 1)(rng, (b, n)),
        },
        answers.beyond_b,
        symmetric=True,
    ),
    Family(
        "rotation and drift", "affine", draws.screw, answers.none(lambda p: np.abs(p["b"][:, -1]))
    ),
    scalar(
        "a |z| + b, a >= 1",
        "absolute",
        answers.beyond_b,
        a=lambda rng, shape: rng.choice((1.0, 1.25, 2.0), shape),
        b=draws.uniform(0.5, 2),
    ),
    scalar(
        "z + b + softplus",
        "softplus",
        answers.beyond_b,
        a=draws.signs,
        b=draws.uniform(0.2, 1),
    ),
    scalar(
        "z + b + exp(-z)",
        "decay",
        answers.beyond_b,
        b=draws.uniform(0.2, 1),
    ),
    scalar(
        "sqrt(z^2 + 1) + b",
        "hyperbola",
        answers.beyond_b,
        b=draws.uniform(0.2, 1),
    ),
    scalar(
        "z + b + a sin z",
        "sine",
        answers.none(lambda p: answers.length(np.abs(p["b"]) - np.abs(p["a"]))),
        a=draws.uniform(-0.5, 0.5),
        b=lambda rng, shape: draws.signs(rng, shape) * rng.uniform(1, 2, shape),
    ),
    scalar(
        "z^2 + b",
        "square",
        answers.none(lambda p: answers.length(p["b"] - 0.25)),
        b=draws.uniform(0.7, 2),
    ),
    scalar(
        "exp(z) + b",
        "exp",
        answers.none(lambda p: answers.length(1 - p["b"])),
        b=draws.uniform(-1, 0.3),
    ),
    scalar(
        "z + b + a z'^2",
        "coupled",
        answers.beyond_b,
        a=draws.uniform(0, 1),
        b=draws.uniform(0.3, 2),
    ),
    Family(
        "half of it solvable",
        "mixed",
        draws.half_solvable,
        answers.none(answers.drift),
    ),
    scalar("z + exp(-z)", "decay", answers.vanishing, b=draws.constant(0)),
    scalar(
        "z + softplus",
        "softplus",
        answers.vanishing,
        a=draws.signs,
        b=draws.constant(0),
    ),
    scalar("sqrt(z^2 + 1)", "hyperbola", answers.vanishing, b=draws.constant(0)),
)


FAMILIES = {f.name: f for f in (*SOLVABLE, *UNSOLVABLE)}
