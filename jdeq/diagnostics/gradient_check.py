"""`check_gradient`: how wrong a gradient is, and which of the two solves is to blame."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, core, lax
from jax.flatten_util import ravel_pytree

from .._deq import deq
from .._space import PyTree, accumulator
from .._state import check_state
from ..backward.base import Backward
from ..solvers.base import Solver

MOST = 4096  # numbers in the whole state: the reference solves a dense system of that size
NEWTON_STEPS = 30


class GradientCheck(NamedTuple):
    """Errors of a gradient, all relative to the norm of the reference. Prints its verdict.

    Attributes:
        total: of the gradient, against the dense one at the tightly solved state.
        forward: of the dense gradient at the state that the solver returned: the error that an
            inexact state alone brings about.
        backward: between the gradient and the dense one at the same, returned state.
        finite_difference: between the reference and central differences of tight solves, along a
            random direction: what the reference itself is worth.
        amplification: `||(I - J)^{-1}||_2` at the tight state, over the whole batch; errors of the
            state and of the adjoint grow by up to this.
        residual: worst relative residual of the returned state.
        tight_residual: relative residual of the tightly solved state.
        rtol: errors below this are good.
    """

    total: float
    forward: float
    backward: float
    finite_difference: float
    amplification: float
    residual: float
    tight_residual: float
    rtol: float

    @property
    def good(self) -> bool:
        """Whether there is a reference, and the gradient is within `rtol` of it."""
        return self.has_reference and self.total <= self.rtol

    @property
    def has_reference(self) -> bool:
        """Whether Newton's method found the fixed point, to a residual that tells."""
        return np.isfinite(self.tight_residual) and self.tight_residual <= min(0.1 * self.rtol, 0.1)

    @property
    def blame(self) -> tuple[str, ...]:
        """`"forward"` and `"backward"`, those whose error is beyond `rtol`."""
        pairs = (("forward", self.forward), ("backward", self.backward))
        return tuple(name for name, error in pairs if not error <= self.rtol)

    @property
    def verdict(self) -> str:
        """In words."""
        if not self.has_reference:
            return (
                "no reference: Newton's method found no fixed point near the returned state "
                f"(residual {self.tight_residual:.1e}); does one exist there?"
            )
        if self.good:
            return "the gradient is good"
        said = {
            "forward": f"the forward solve is to blame: its residual of {self.residual:.1e} puts "
            "the gradient at the wrong state; raise max_iter, lower tol, or take another solver",
            "backward": "the backward solve is to blame: it differs from the exact adjoint at the "
            "same state; take more steps of a phantom gradient, a tighter backward solve of "
            "jdeq.IFT (max_iter, tol, another solver), or jdeq.IFT in place of an inexact backward",
        }
        parts = [said[name] for name in self.blame] or ["small errors of both solves add up"]
        return "the gradient is wrong: " + "; and ".join(parts)

    def __repr__(self) -> str:
        return "\n".join(
            (
                self.verdict,
                f"  error of the gradient   {self.total:.1e}  (good: below {self.rtol:.0e})",
                f"    from the forward      {self.forward:.1e}  (residual {self.residual:.1e})",
                f"    from the backward     {self.backward:.1e}",
                f"  reference vs. finite differences {self.finite_difference:.1e}, "
                f"|(I - J)^-1| = {self.amplification:.2g}",
            )
        )


def check_gradient(
    f: Callable[[Any, PyTree], PyTree],
    z0: PyTree,
    loss: Callable[[PyTree], Array],
    params: Any,
    *,
    solver: str | Solver = "fixed_point_iter",
    backward: str | Backward = "ift",
    batch_dims: int = 1,
    rtol: float = 1e-3,
    seed: int = 0,
    **solver_options: Any,
) -> GradientCheck:
    """Compares the gradient of `loss(z*)` with a dense reference, and splits the error in two.

    With `z` the returned state, `z*` the one that Newton's method makes of it, and the dense
    gradient `g(z) = (df/dparams)^T (I - J(z))^{-T} dloss/dz(z)`: the forward's part is
    `g(z) - g(z*)`, the backward's what is left, and finite differences check `g(z*)`.

    Works in the dtypes given: with float64 parameters and state (`jax_enable_x64`) the reference is
    good to about 1e-9, in float32 to about 1e-3. Costs dense Jacobians of the whole state: make the
    batch and the model small. Call it outside `jit`.

    Args:
        f: `f(params, z) -> z`.
        z0: start state.
        loss: scalar function of the state.
        params: pytree; its floating leaves are differentiated.
        solver, backward, batch_dims, **solver_options: as in `deq`; what is checked.
        rtol: error up to which a gradient counts as good.
        seed: of the direction for finite differences.

    Raises:
        ValueError: the state has more than 4096 numbers.
        TypeError: called under `jit`; otherwise as `deq` does.

    Source: Bai et al., *Deep Equilibrium Models* (2019), thm. 1.

    Example:
        >>> import jax.numpy as jnp, jdeq
        >>> f = lambda w, z: jnp.tanh(w * z + 1)
        >>> check = lambda **how: jdeq.check_gradient(
        ...     f, jnp.zeros((2, 3)), jnp.sum, jnp.asarray(0.9), rtol=1e-2, **how)
        >>> check(max_iter=50).blame, check(max_iter=2).blame, check(backward="jfb").blame
        ((), ('forward',), ('backward',))
    """
    if any(isinstance(x, core.Tracer) for x in jax.tree.leaves((z0, params))):
        raise TypeError("check_gradient hands its findings to the host: call it outside jit")
    z0 = check_state(z0, batch_dims)
    size = sum(x.size for x in jax.tree.leaves(z0))
    if size > MOST:
        raise ValueError(f"the dense reference takes states of up to {MOST} numbers, got {size}")
    flatten, unflatten = _flat(z0)
    params = jax.tree.map(jnp.asarray, params)
    theta, rebuild = _flat_floats(params)
    flat_f = lambda theta, v: flatten(f(rebuild(theta), unflatten(v)))
    flat_loss = lambda v: loss(unflatten(v)).astype(v.dtype)

    @jax.jit
    def measured(theta):
        def value(theta):
            z, info = deq(
                lambda z: f(rebuild(theta), z),
                z0,
                solver=solver,
                backward=backward,
                batch_dims=batch_dims,
                **solver_options,
            )
            return loss(z), (flatten(z), info.rel_residual)

        gradient, (v, residual) = jax.grad(value, has_aux=True)(theta)
        return gradient, v, jnp.max(residual, initial=0)

    def dense(theta, v):
        adjoint = jnp.eye(v.size, dtype=v.dtype) - jax.jacobian(flat_f, 1)(theta, v)
        y = jnp.linalg.solve(adjoint.T, jax.grad(flat_loss)(v))
        least = jnp.linalg.svd(adjoint, compute_uv=False)[-1:]
        return jax.vjp(lambda t: flat_f(t, v), theta)[1](y)[0], 1 / jnp.min(least, initial=jnp.inf)

    def newton(theta, v):
        """The best of Newton's states, and its relative residual."""

        def step(carry, _):
            v, best, record = carry
            fv = flat_f(theta, v)
            now = jnp.linalg.norm(fv - v) / (jnp.linalg.norm(fv) + jnp.finfo(v.dtype).tiny)
            best, record = jnp.where(now < record, v, best), jnp.fmin(now, record)
            slope = jnp.eye(v.size, dtype=v.dtype) - jax.jacobian(flat_f, 1)(theta, v)
            return (v + jnp.linalg.solve(slope, fv - v), best, record), None

        start = (v, v, jnp.full_like(jnp.linalg.norm(v), jnp.inf))
        (_, best, record), _ = lax.scan(step, start, None, length=NEWTON_STEPS)
        return best, record

    @jax.jit
    def reference(theta, v):
        direction = jax.random.normal(jax.random.key(seed), theta.shape, theta.dtype)
        direction = direction / (jnp.linalg.norm(direction) + jnp.finfo(theta.dtype).tiny)
        h = jnp.finfo(theta.dtype).eps ** (1 / 3) * (1 + jnp.linalg.norm(theta))
        moved = jnp.stack([theta, theta + h * direction, theta - h * direction])
        tight, residuals = lax.map(lambda t: newton(t, v), moved)  # mapped: compiled once
        gradients, amplification = lax.map(lambda v: dense(theta, v), jnp.stack([v, tight[0]]))
        ends = lax.map(flat_loss, tight[1:]).astype(theta.dtype)
        slope = (ends[0] - ends[1]) / (2 * h)
        difference = jnp.vdot(gradients[1], direction) - slope
        return gradients[0], gradients[1], amplification[1], difference, residuals[0]

    gradient, v, residual = measured(theta)
    at_returned, exact, amplification, difference, tight_residual = reference(theta, v)
    scale = float(jnp.linalg.norm(exact)) + float(jnp.finfo(theta.dtype).tiny)
    relative = lambda x: float(jnp.linalg.norm(x)) / scale
    return GradientCheck(
        total=relative(gradient - exact),
        forward=relative(at_returned - exact),
        backward=relative(gradient - at_returned),
        finite_difference=abs(float(difference)) / scale,
        amplification=float(amplification),
        residual=float(residual),
        tight_residual=float(tight_residual),
        rtol=rtol,
    )


def _flat(tree: PyTree) -> tuple[Callable[[PyTree], Array], Callable[[Array], PyTree]]:
    """To one vector in a dtype wide enough for all leaves, and back to their own dtypes."""
    wide = accumulator(*jax.tree.leaves(tree))
    like = jax.tree.map(lambda x: x.astype(wide), tree)
    unravel = ravel_pytree(like)[1]
    flatten = lambda t: ravel_pytree(jax.tree.map(lambda x: x.astype(wide), t))[0]
    return flatten, lambda v: jax.tree.map(lambda x, a: x.astype(a.dtype), unravel(v), tree)


def _flat_floats(params: Any) -> tuple[Array, Callable[[Array], Any]]:
    """The floating leaves of `params` as one vector, and how to put a vector in their place."""
    leaves, treedef = jax.tree.flatten(params)
    floating = [jnp.issubdtype(x.dtype, jnp.floating) for x in leaves]
    kept = [x for x, yes in zip(leaves, floating, strict=True) if yes]
    if not kept:
        raise ValueError("params holds no floating array to differentiate")
    flatten, unflatten = _flat(kept)

    def rebuild(theta: Array) -> Any:
        new = iter(unflatten(theta))
        full = [next(new) if yes else x for x, yes in zip(leaves, floating, strict=True)]
        return jax.tree.unflatten(treedef, full)

    return flatten(kept), rebuild
