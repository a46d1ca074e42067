"""Monotone operator equilibrium: a layer whose fixed point exists, is unique and is found."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jax.typing import DTypeLike

from .._checks import check_either, check_scalar
from .._deq import deq
from .._info import SolverInfo
from .._loop import measure
from .._space import Space, accumulator
from .._splitting import (
    Watched,
    WatchedIter,
    forward_backward,
    peaceman_rachford,
    watch,
)
from ..backward import IFT, Backward
from ..solvers import FixedPointIter


class MonotoneLinear(nnx.Module):
    """`W = (1 - m) I - A^T A + B - B^T`, so that `sym(I - W) = m I + A^T A >= m I`.

    Whatever values `A` and `B` take, `I - W` is strongly monotone with constant `m`: no
    projection, clipping or penalty is needed in training. The spectral radius of `W` is not
    bounded. A call costs four products with n x n matrices and never forms `W`.

    Args:
        features: n.
        m: strong monotonicity, > 0. The solution moves by at most `1 / m` times a change of its
            input: a small `m` is more expressive and takes more iterations.
        param_dtype: of `A` and `B`.
        rngs: source of the initial values.

    Attributes:
        A, B: `(n, n)` parameters.

    Raises:
        ValueError: `m` is not positive.

    Source: Winston & Kolter, *Monotone Operator Equilibrium Networks* (2020), prop. 1.

    Example:
        >>> from flax import nnx
        >>> import jax.numpy as jnp, jdeq
        >>> linear = jdeq.nn.MonotoneLinear(4, m=0.5, rngs=nnx.Rngs(0))
        >>> w = linear.kernel()
        >>> float(jnp.linalg.eigvalsh(jnp.eye(4) - (w + w.T) / 2).min()) > 0.499
        True
    """

    def __init__(
        self,
        features: int,
        *,
        m: float = 1.0,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_scalar("m", m, above=0)
        init = nnx.initializers.lecun_normal()
        self.A = nnx.Param(init(rngs.params(), (features, features), param_dtype))
        self.B = nnx.Param(init(rngs.params(), (features, features), param_dtype))
        self.m = m

    def __call__(self, z: Array) -> Array:
        """`W z` for every row of `z` `(..., n)`, in the dtype of `z`."""
        return self._apply(z, 1)

    def kernel(self) -> Array:
        """`W` itself, `(n, n)`; it multiplies columns: the call is `z @ W.T`."""
        return self(jnp.eye(self.A.shape[0], dtype=self.A.dtype)).T

    def norm(self, *, n_iters: int = 32) -> Array:
        """`||I - W||_2` by power iteration from a fixed start; never above it, no gradient.

        The square is low by a few per cent at most, and a splitting's step tolerates half.
        """

        def step(_: int, v: Array) -> Array:
            v = v / jnp.linalg.norm(v)
            v = v - self._apply(v, 1, detached=True)
            return v - self._apply(v, -1, detached=True)

        v = jax.random.normal(jax.random.key(0), self.A.shape[:1], self.A.dtype)
        return jnp.sqrt(jnp.linalg.norm(lax.fori_loop(0, n_iters, step, v)))

    def _apply(self, z: Array, sign: int, *, detached: bool = False) -> Array:
        """`W z`, or `W^T z` with sign -1."""
        a, b = self.A[...].astype(z.dtype), self.B[...].astype(z.dtype)
        if detached:
            a, b = lax.stop_gradient((a, b))
        return (1 - self.m) * z - (z @ a.T) @ a + sign * (z @ b.T - z @ b)


class MonDEQ(nnx.Module):
    """Monotone operator equilibrium layer: `z* = relu(W z* + U x + b)`.

    `W` is a `jdeq.nn.MonotoneLinear`. The solution exists and is unique for all parameters and
    inputs, also where the spectral radius of `W` is far above 1 and plain iteration diverges;
    both splittings find it, at a linear rate that is known beforehand. Take it when a model must
    not fail to converge, be it during training or on unseen inputs, and one fully connected
    cell with `relu` is enough; it is a narrower family than `jdeq.nn.DEQ` of a free cell.

    The splitting is an ordinary fixed point problem, differentiated by the implicit function
    theorem at its solution: the exact gradient of `z*`. The adjoint of a splitting map contracts
    by the same factor as the map, so the backward solve (by default fixed point iteration too)
    is guaranteed as well, which on `relu(W z + U x + b)` itself it would not be.

    Args:
        in_features, out_features: lengths of `x` and of `z`.
        m: strong monotonicity of `I - W`; see `MonotoneLinear`.
        splitting: `"peaceman_rachford"`: few iterations, each a product with an n x n matrix that
            takes one inversion per call, O(n^3), and one with `W` to measure the residual.
            `"forward_backward"`: no inversion, four products per iteration, about `L / m` times
            as many iterations with `L = ||I - W||_2`.
        alpha: step. By default the best by the bounds: `1 / L`, or `m / L^2`; both follow the
            parameters. A fixed one must be below `2 m / L^2` for forward-backward; any positive
            one will do for Peaceman-Rachford.
        tol: a sample has converged when the residual of the equation, relative to `z`, is below
            this (and so is the splitting's own step); None as in `jdeq.FixedPointIter`.
        max_iter: most iterations, forward and (by default) backward.
        backward: another way to differentiate, by name or object.
        param_dtype: of all parameters.
        rngs: source of the initial values.

    Attributes:
        linear: `W`.
        input: `U` and `b`, an `nnx.Linear`.

    Raises:
        ValueError: `m` or `alpha` is not positive, or an unknown splitting.

    Source: Winston & Kolter, *Monotone Operator Equilibrium Networks* (2020).

    Example:
        >>> from flax import nnx
        >>> import jax.numpy as jnp, jdeq
        >>> layer = jdeq.nn.MonDEQ(3, 16, rngs=nnx.Rngs(0))
        >>> z, info = nnx.jit(layer)(jnp.ones((2, 3)))
        >>> z.shape, bool(info.converged.all())
        ((2, 16), True)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        m: float = 1.0,
        splitting: Literal["peaceman_rachford", "forward_backward"] = "peaceman_rachford",
        alpha: float | None = None,
        tol: float | None = None,
        max_iter: int = 300,
        backward: str | Backward | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_either("splitting", splitting, "peaceman_rachford", "forward_backward")
        if alpha is not None:
            check_scalar("alpha", alpha, above=0)
        self.linear = MonotoneLinear(out_features, m=m, param_dtype=param_dtype, rngs=rngs)
        self.input = nnx.Linear(in_features, out_features, param_dtype=param_dtype, rngs=rngs)
        self.splitting = splitting
        self.alpha = alpha
        self.solver = WatchedIter(max_iter=max_iter, tol=tol)
        adjoint = FixedPointIter(max_iter=max_iter, tol=tol)
        self.backward = IFT(solver=adjoint) if backward is None else backward

    def __call__(self, x: Array, z0: Array | None = None) -> tuple[Array, SolverInfo]:
        """Solves for the state.

        Args:
            x: `(..., in_features)`; every row is a sample.
            z0: `(..., out_features)`, a guess of `z*` to start from; 0 by default.

        Returns:
            `z*`, and its `jdeq.SolverInfo`, whose residuals are those of
            `z = relu(W z + U x + b)`. The traces hold the larger of that and of the splitting's
            own residual (up to a factor of sqrt 2), which is what is compared with `tol`.
        """
        q = self.input(x)
        z0 = jnp.zeros_like(q) if z0 is None else z0
        alpha = self.step_size().astype(q.dtype)
        space = Space(x.ndim - 1)
        if self.splitting == "forward_backward":
            apply, start, read = self.linear, z0, lambda z: z
            step = forward_backward(apply, q, alpha)
        else:
            w = self.linear.kernel().T
            v = self._resolvent(w, alpha).astype(q.dtype)
            w = w.astype(q.dtype)
            apply, read = lambda z: z @ w, jax.nn.relu
            step = peaceman_rachford(lambda u: u @ v, q, alpha)
            start = z0 + alpha * (apply(z0) + q - z0)  # at z* it is the fixed point
        f = lambda z: jax.nn.relu(apply(z) + q)
        found, info = deq(
            watch(step, read, f, space),
            Watched(start, jnp.zeros_like(start)),
            solver=self.solver,
            backward=self.backward,
            batch_dims=space.batch_dims,
        )
        z = read(found.state)
        residual = measure(space, z, f(z))
        measured = {"abs_residual": residual.abs, "rel_residual": residual.rel}
        return z, info._replace(nfe=info.nfe + 1, **measured)

    def step_size(self) -> Array:
        """`alpha`, a scalar; the solution does not depend on it, so it has no gradient."""
        if self.alpha is not None:
            return jnp.asarray(self.alpha, self.linear.A.dtype)
        norm = self.linear.norm()
        return 1 / norm if self.splitting == "peaceman_rachford" else self.linear.m / norm**2

    def _resolvent(self, w: Array, alpha: Array) -> Array:
        """`(I + alpha (I - w))^{-1}`, in float32 at least; its norm is below 1."""
        w = w.astype(accumulator(w))
        eye = jnp.eye(w.shape[0], dtype=w.dtype)
        return jnp.linalg.inv(eye + alpha.astype(w.dtype) * (eye - w))
