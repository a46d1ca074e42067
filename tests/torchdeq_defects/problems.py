"""What the tests of TorchDEQ's defects solve.

In each test a docstring says what TorchDEQ 0.1.0 was observed to do; the expected values are
closed forms, Newton's method or dense linear algebra in numpy.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq

from ..problems import matrix

SOLVERS = ("fixed_point_iter", "anderson", "broyden")
each_solver = pytest.mark.parametrize("solver", SOLVERS)


def halving(z):
    """Fixed point 2; from 0 the plain iterates are 2 - 2^(1-k), with residuals 2^-k."""
    return 0.5 * z + 1


def solve(f, z0, **settings):
    return jax.jit(lambda z0: jdeq.deq(f, z0, **settings))(z0)


class Tanh:
    """tanh(z W^T + x) with its solution and derivatives by dense algebra, in numpy."""

    def __init__(self, size=8, radius=0.8, batch=3, seed=0):
        self.w = matrix(size, radius, seed)
        self.x = np.random.default_rng(seed + 1).normal(size=(batch, size))
        self.z0 = np.zeros_like(self.x)

    def f(self, w, z):
        return jnp.tanh(z @ w.T + self.x)

    def solution(self, w=None):
        w = self.w if w is None else w
        z = self.z0
        for _ in range(300):
            z = np.tanh(z @ w.T + self.x)
        for _ in range(5):
            fz, jacobian = self._linearise(w, z)
            step = np.linalg.solve(np.eye(len(w)) - jacobian, (fz - z)[..., None])
            z = z + step[..., 0]
        return z

    def gradient(self, w=None):
        """Of sum(z*^2) / 2 with respect to W, by the implicit function theorem."""
        w = self.w if w is None else w
        z = self.solution(w)
        fz, jacobian = self._linearise(w, z)
        adjoint = np.linalg.solve(np.eye(len(w)) - jacobian.transpose(0, 2, 1), z[..., None])
        return (adjoint[..., 0] * (1 - fz**2)).T @ z

    def _linearise(self, w, z):
        fz = np.tanh(z @ w.T + self.x)
        return fz, (1 - fz**2)[..., None] * w

    def loss(self, w, **settings):
        z, _ = jdeq.deq(functools.partial(self.f, w), self.z0, **settings)
        return jnp.sum(z**2) / 2


def relative_error(got, want):
    return np.linalg.norm(got - want) / np.linalg.norm(want)
