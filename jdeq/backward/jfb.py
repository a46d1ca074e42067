"""Jacobian-free backpropagation."""

import dataclasses

import jax

from .._loop import Solution
from .._problem import Problem
from .._space import PyTree
from .base import Backward


@dataclasses.dataclass(frozen=True)
class JFB(Backward):
    """Jacobian-free backpropagation: the derivative of one application of `f` at the solution.

    `dl/dtheta ~ (df/dtheta)^T v` with the cotangent `v` of `z*`: the implicit gradient with the
    inverse `(I - J)^{-1}` left out. The value is the solver's own state. Costs one evaluation and
    one vector-Jacobian product. In the state's space the angle to the implicit cotangent stays
    below 90 degrees if `|J| < 1`; the larger the spectral radius, the cruder it is.

    Source: Fung et al., *JFB: Jacobian-Free Backpropagation for Implicit Networks* (2022).

    Example:
        >>> import jax, jax.numpy as jnp, jdeq
        >>> def root(a):  # z = a z + 1, dz/da = z / (1 - a), of which z is taken
        ...     return jdeq.deq(lambda z: a * z + 1, jnp.zeros((1, 1)), backward="jfb")[0].sum()
        >>> print(f"{jax.grad(root)(0.5):.3f}")
        2.000
    """

    def __call__(self, problem: Problem) -> Solution:
        solution = problem.solve_detached()

        def attach(z: PyTree) -> PyTree:
            return with_tangent_of(z, problem.f(z))

        z, *states = map(attach, (solution.z, *solution.states))
        return solution._replace(z=z, states=tuple(states)).after(1 + len(states))


@jax.custom_jvp
def with_tangent_of(value: PyTree, carrier: PyTree) -> PyTree:
    """`value`, to the bit, with the derivatives of `carrier`."""
    return value


@with_tangent_of.defjvp
def _with_tangent_of_jvp(primals, tangents):
    return primals[0], tangents[1]
