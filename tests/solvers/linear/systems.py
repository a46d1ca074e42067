"""Linear systems of known spectra, and their solve."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import jdeq
from jdeq.extend import Problem, solve_linear

from ...problems import matrix

KRYLOV = {"gmres": jdeq.GMRES, "bicgstab": jdeq.BiCGStab, "cg": jdeq.CG}
N = 32
RNG = np.random.default_rng(0)
V = jnp.asarray(RNG.normal(size=(4, N)))


def symmetric(radius):
    q, _ = np.linalg.qr(RNG.normal(size=(N, N)))
    return q * np.linspace(-radius, radius, N) @ q.T


def non_normal(radius):
    q, _ = np.linalg.qr(RNG.normal(size=(N, N)))
    t = np.triu(0.25 * RNG.normal(size=(N, N)), 1) + np.diag(np.linspace(-radius, radius, N))
    return q @ t @ q.T


KINDS = {
    "symmetric": symmetric,
    "gauss": lambda radius: matrix(N, radius),
    "non-normal": non_normal,
}
RADII = [0.5, 0.9, 0.99]
MATRICES = {(kind, radius): KINDS[kind](radius) for kind in KINDS for radius in RADII}
EASY = symmetric(0.4)  # within reach of bfloat16


def solve_system(product, v, *, solver):
    """y = v + product(y) for the samples of v, and what the solver says of it."""
    y, problem, solution = solve_linear(
        product, v, solver=solver, batch_dims=1, solve=Problem.solve_detached
    )
    return y, problem.info(solution)


@functools.partial(jax.jit, static_argnames="solver")
def solve(a, v, *, solver):
    """y = v + A y for rows of v."""
    return solve_system(lambda y: y @ a.T, v, solver=solver)
