"""The implicit layer."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

import jdeq
from zoo.ignn.config import IGNNConfig
from zoo.ignn.iteration import TogetherIteration
from zoo.ignn.matrix import Matrix
from zoo.ignn.projection import project_l1
from zoo.ignn.propagation import Edges
from zoo.ignn.spectral import RowSpectralNorm
from zoo.nn.buffer import Buffer

RHO_EPS = 1e-5  # added to a spectral radius, which may be 0


class Equation(NamedTuple):
    """`z = relu(A^T z W + b)`, of B packs of N nodes.

    `kernel` W (m, m) or (B, m, m), as it was normalised and projected; `injection` b (B, N, m).
    """

    kernel: Array
    injection: Array
    edges: Edges

    def __call__(self, z: Array) -> Array:
        """z (B, N, m) -> same shape."""
        return jax.nn.relu(self.edges.propagate(z) @ self.kernel + self.injection)


class Unread(nnx.Module):
    """Parameters of the original that no result depends on: kept for its state dicts alone."""

    def __init__(self, bias: Array, kernel: Array | None):
        self.bias = nnx.Param(bias)
        self.kernel = None if kernel is None else nnx.Param(kernel)


class Moved(nnx.Variable):
    """How far projections have moved a parameter: it is to be read as their sum."""


class Weights(nnx.Module):
    """All weights of a layer; a norm is wrapped around them.

    Args:
        in_features: p.
        features: m.
        config: of the model.
        rngs: `params` draws the initial weights, from U(-1/sqrt(m), 1/sqrt(m)), unless W begins
            as the identity.
        param_dtype: of the parameters.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        config: IGNNConfig,
        *,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike,
    ):
        looks = config.looks_at_itself
        bound = features**-0.5
        draw = lambda n: jax.random.uniform(
            rngs.params(), (n, features), param_dtype, -bound, bound
        )
        identity = config.w_init == "identity"
        self.w = Matrix(jnp.eye(features, dtype=param_dtype) if identity else draw(features))
        self.omega_1 = Matrix(draw(in_features))
        self.omega_2 = Matrix(draw(in_features)) if looks else None
        self.unread = Unread(draw(1), None if looks else draw(in_features))

    def __call__(self, x: Array, edges: Edges) -> tuple[Array, Array]:
        """x (B, N, p) -> W (m, m), before it is projected, and the injection (B, N, m)."""
        injection = edges.propagate(self.omega_1(x))
        if self.omega_2 is not None:
            injection += self.omega_2(x)
        return self.w.kernel[...], injection


class ImplicitLayer(nnx.Module):
    """The equilibrium of `z = relu(A^T z W + A^T x Omega_1 + x Omega_2)` on a graph.

    The largest row sum of |W|, in the original's layout, is at most `kappa / rho(|A|)`: each row is
    projected onto an L1 ball, so for `kappa < 1` there is one equilibrium, whatever the parameters.
    All of this comes once before the solve. The projection's derivative is left out: gradients are
    those by the projected W. With a norm, its parameters go where they want. Without, it is W
    itself that is projected whenever a layer is used in training (projected gradient descent);
    `moved` holds by how much, since parameters are the optimiser's to write.

    Args:
        in_features, features: p and m.
        config: of the model.
        deq: solver, gradient, norm.
        rngs: `params` draws the initial weights.
        param_dtype: of the parameters.

    Attributes:
        weights: `Weights`, in their norm if there is one.
        deterministic: set by `.eval()`, cleared by `.train()`.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        config: IGNNConfig,
        deq: jdeq.DEQConfig,
        *,
        rngs: nnx.Rngs,
        param_dtype: DTypeLike = jnp.float32,
    ):
        weights = Weights(in_features, features, config, rngs=rngs, param_dtype=param_dtype)
        self.weights = _normed(weights, deq)
        held = deq.norm_type == "none" and config.kappa is not None
        self.moved = Moved(jnp.zeros((features, features), param_dtype)) if held else None
        kept = config.form == "nodes" and config.keeps_start
        start = jnp.zeros((config.n_nodes, features), param_dtype) if kept else None
        self.x_0 = None if start is None else Buffer(start)
        self.config = config
        self.deq = deq
        self.deterministic = False

    def __call__(self, x: Array, edges: Edges) -> tuple[Array, jdeq.SolverInfo]:
        """Features x (B, N, p) -> states (B, N, m) and what the solve of each pack says."""
        return self.solve(self.equation(x, edges))

    def equation(self, x: Array, edges: Edges) -> Equation:
        """What is to be solved; in training a spectral norm's vectors move on, and so does W."""
        w, injection = self.weights(x, edges)
        return Equation(self._projected(w, edges.rho), injection, edges)

    def solve(self, equation: Equation) -> tuple[Array, jdeq.SolverInfo]:
        """States (B, N, m), each pack a sample of the solver."""
        z0, train = self.start(equation), not self.deterministic
        if not self.config.channel_samples:
            return jdeq.ConfiguredDEQ(self.deq)(equation, z0, train=train)
        swap = lambda a: jnp.swapaxes(a, 1, 2)
        of = self.deq.solver(train=train)
        solver = TogetherIteration(max_iter=of.max_iter, tol=of.tol, stop_mode=of.stop_mode)
        z, info = jdeq.deq(
            lambda z: swap(equation(swap(z))),
            swap(z0),
            solver=solver,
            backward=self.deq.backward(train=train),
            batch_dims=2,
        )
        return swap(z), info

    def start(self, equation: Equation) -> Array:
        """Where solves begin (B, N, m)."""
        b = equation.injection
        if not self.config.starts_at_zero:
            return b
        zeros = jnp.zeros_like(b)
        return zeros if self.x_0 is None else zeros.at[:, : self.config.n_nodes].set(self.x_0[...])

    def plain_weights(self) -> Weights:
        """The weights as their norm makes them, W before it is projected."""
        norm = self.weights
        return norm.fold() if isinstance(norm, jdeq.nn.KernelNorm) else norm

    def _projected(self, w: Array, rho: Array) -> Array:
        """W of each pack, or of all of them."""
        kappa = self.config.kappa
        if kappa is None:
            return w
        bound = kappa / (rho + RHO_EPS) if self.config.measures else jnp.asarray(kappa, w.dtype)
        if self.moved is not None:
            near = project_l1(w + self.moved[...], jnp.min(bound), axis=-2).astype(w.dtype)
            if not self.deterministic:
                self.moved[...] = jax.lax.stop_gradient(near - w).astype(self.moved.dtype)
        elif bound.ndim:
            near = project_l1(w[None], bound[:, None, None], axis=-2)
        else:
            near = project_l1(w, bound, axis=-2)
        return _straight_through(w, near)


@jax.custom_jvp
def _straight_through(w: Array, near: Array) -> Array:
    """`near`, with the derivative of `w`."""
    del w
    return near


@_straight_through.defjvp
def _straight_through_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    near = primals[1]
    return near, jnp.broadcast_to(tangents[0], near.shape)


def _normed(weights: Weights, deq: jdeq.DEQConfig) -> Any:
    """The weights in their norm; a spectral norm has a scale for each row here."""
    if deq.norm_type != "spectral_norm":
        return deq.norm(weights)
    return RowSpectralNorm(
        weights,
        learn_scale=not deq.norm_no_scale,
        target_norm=deq.norm_target_norm,
        clip=deq.norm_clip_value if deq.norm_clip else None,
        n_power_iterations=deq.sn_n_power_iters,
    )
