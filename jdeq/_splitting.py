"""Operator splittings of `z = prox(W z + q)` as fixed point maps."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from ._space import Space
from .solvers.base import IterativeSolver

Map = Callable[[Array], Array]


def forward_backward(
    apply: Map, q: Array, alpha: float | Array, *, prox: Map = jax.nn.relu
) -> Callable[[Array], Array]:
    """The map `z -> prox((1 - alpha) z + alpha (W z + q))`, fixed where `z = prox(W z + q)`.

    With `sym(I - W) >= m I` and `L = ||I - W||_2` each application shrinks the distance to the
    solution by `sqrt(1 - 2 alpha m + alpha^2 L^2)`, which is below 1 for `0 < alpha < 2 m / L^2`
    and least at `alpha = m / L^2`. One product with `W` per application and nothing beforehand:
    the choice for a `W` that is an operator (a convolution, a product of factors). It slows down
    with the square of `L / m`.

    Args:
        apply: `z -> W z`; samples are rows of whatever shape.
        q: what is added to it.
        alpha: step, a number or a scalar array.
        prox: proximal operator, with step `alpha`, of the convex function that the activation
            belongs to. For `relu` it is `relu` itself, whatever `alpha`; for others (tanh,
            softplus) it depends on `alpha`, and the activation in its place solves another
            equation.

    Returns:
        The map, to be solved by `jdeq.deq(map, z0, solver="fixed_point_iter")`.

    Source: Winston & Kolter, *Monotone Operator Equilibrium Networks* (2020), alg. 1.

    Example:
        >>> import jax.numpy as jnp, jdeq
        >>> w, q = jnp.array([[-2.0, 3.0], [-3.0, -2.0]]), jnp.ones((1, 2))  # m = 3, L^2 = 18
        >>> f = jdeq.forward_backward(lambda z: z @ w.T, q, 3 / 18)
        >>> z, info = jdeq.deq(f, jnp.zeros((1, 2)), solver="fixed_point_iter")
        >>> bool(jnp.allclose(z, jnp.maximum(z @ w.T + q, 0), atol=1e-4))
        True
    """
    return lambda z: prox((1 - alpha) * z + alpha * (apply(z) + q))


def peaceman_rachford(
    resolvent: Map, q: Array, alpha: float | Array, *, prox: Map = jax.nn.relu
) -> Callable[[Array], Array]:
    """The map `u -> 2 V(2 z - u + alpha q) - (2 z - u)`, `z = prox(u)`, fixed where `z` solves.

    `V = (I + alpha (I - W))^{-1}`. At the fixed point `z = prox(u)` is the solution of
    `z = prox(W z + q)`. With `sym(I - W) >= m I` and `L = ||I - W||_2` it contracts for *every*
    `alpha > 0`, by `||2 V - I|| <= sqrt(1 - 4 alpha m / (1 + 2 alpha m + alpha^2 L^2))`; the bound
    is least, `sqrt((L - m) / (L + m))`, at `alpha = 1 / L`. One product with `V` per application
    and far fewer of them than forward-backward; but `V` has to be had, which for a dense `W` is an
    inverse, taken once per solve.

    Args:
        resolvent: `u -> V u`.
        q: added to `W z` in the equation that is solved.
        alpha: step, a number or a scalar array, the same as in `V`.
        prox: see `jdeq.forward_backward`.

    Returns:
        The map of `u`; the solution is `prox` of its fixed point.

    Source: Winston & Kolter (2020), alg. 2; the factor: Giselsson & Boyd, *Linear Convergence and
    Metric Selection for Douglas-Rachford Splitting and ADMM* (2017), for the reflected resolvent.

    Example:
        >>> import jax, jax.numpy as jnp, jdeq
        >>> w, q = jnp.array([[-2.0, 3.0], [-3.0, -2.0]]), jnp.ones((1, 2))
        >>> v = jnp.linalg.inv(jnp.eye(2) + 0.25 * (jnp.eye(2) - w))
        >>> f = jdeq.peaceman_rachford(lambda u: u @ v.T, q, 0.25)
        >>> u, info = jdeq.deq(f, jnp.zeros((1, 2)), solver="fixed_point_iter")
        >>> z = jax.nn.relu(u)
        >>> bool(jnp.allclose(z, jnp.maximum(z @ w.T + q, 0), atol=1e-4))
        True
    """

    def reflect_twice(u: Array) -> Array:
        reflected = 2 * prox(u) - u
        return 2 * resolvent(reflected + alpha * q) - reflected

    return reflect_twice


class Watched(NamedTuple):
    """A splitting's variable, beside what is wrong with it; zero at the solution.

    Both are `(*batch, n)`.
    """

    state: Array
    error: Array


def watch(step: Map, read: Map, f: Map, space: Space) -> Callable[[Watched], Watched]:
    """`step` on the state, with the residual of `z = f(z)` at `z = read(state)` as its error.

    A splitting's own step measures the equation's residual in its own units, which for a small
    `alpha` are far too kind. The error is scaled so that its share of the state is the relative
    residual `||f(z) - z|| / ||f(z)||`. No gradient flows through it.
    """

    def watched(w: Watched) -> Watched:
        state, z = step(w.state), read(w.state)
        fz = f(z)
        size = space.norm(fz)
        unit = space.norm(state) / jnp.where(size > 0, size, 1)
        return Watched(state, lax.stop_gradient(space.scale(fz - z, unit)))

    return watched


@dataclasses.dataclass(frozen=True, kw_only=True)
class WatchedIter(IterativeSolver):
    """Fixed point iteration of a watched map: the error counts as residual, and starts anew."""

    def step(self, space: Space, k, z: Watched, fz: Watched, state):
        return Watched(fz.state, jnp.zeros_like(fz.error)), state
