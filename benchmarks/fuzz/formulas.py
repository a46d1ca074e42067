"""The maps, each written once for NumPy (float64, to judge by) and for JAX.

A problem of scale s is `f(z) = s phi(z / s)`, with s a power of two: so scaling rounds nothing, and
all of a problem can be said in units of s.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

Params = dict[str, Any]  # "w" (B, n, n); "a", "b", "c" (B, n); "m" (B, n) bool
Formula = Callable[[Any, Params, Any], Any]  # (numpy or jax.numpy, parameters, u) -> phi(u)


def _times(p: Params, u: Any) -> Any:
    return (p["w"] * u[:, None, :]).sum(-1)


def _cubic(xp: Any, p: Params, u: Any) -> Any:
    d = u - p["b"]
    return u - p["a"] * d * (d * d - p["c"] * p["c"])


FORMULAS: dict[str, Formula] = {
    "affine": lambda xp, p, u: _times(p, u) + p["b"],
    "shift": lambda xp, p, u: u + p["b"],
    "tanh": lambda xp, p, u: xp.tanh(_times(p, u) + p["b"]),
    "relu": lambda xp, p, u: xp.maximum(_times(p, u) + p["b"], 0),
    "cubic": _cubic,  # roots b, b - c, b + c
    "absolute": lambda xp, p, u: p["a"] * xp.abs(u) + p["b"],
    "square root": lambda xp, p, u: xp.sqrt(u) + p["b"],
    "exp": lambda xp, p, u: xp.exp(u) - p["b"],
    "decay": lambda xp, p, u: u + p["b"] + xp.exp(-u),
    "softplus": lambda xp, p, u: u + p["b"] + xp.logaddexp(p["a"] * u, xp.zeros_like(u)),
    "hyperbola": lambda xp, p, u: xp.sqrt(u * u + 1) + p["b"],
    "sine": lambda xp, p, u: u + p["b"] + p["a"] * xp.sin(u),
    "square": lambda xp, p, u: u * u + p["b"],
    "coupled": lambda xp, p, u: u + p["b"] + p["a"] * xp.roll(u, 1, 1) ** 2,
    "mixed": lambda xp, p, u: xp.where(p["m"], 0.5 * u, u) + p["b"],
}
NUMBER = {name: i for i, name in enumerate(FORMULAS)}


def exactly(formula: str, p: Params, u: np.ndarray) -> np.ndarray:
    """phi(u) in float64; infinite where it overflows."""
    with np.errstate(all="ignore"):
        return FORMULAS[formula](np, p, u)


def equilibrium(number: Array | int, p: Params, scale: Array, z: Array, names: Any = None) -> Array:
    """f(z), in float32 at least and rounded to the state's dtype at the end.

    `number` is traced, so that one program serves all the formulas; `names` restricts them.
    """
    branches = [lambda p, u, f=FORMULAS[name]: f(jnp, p, u) for name in names or FORMULAS]
    wide = z.astype(scale.dtype) / scale
    out = branches[0](p, wide) if len(branches) == 1 else lax.switch(number, branches, p, wide)
    return (scale * out).astype(z.dtype)


def wide_of(dtype: Any) -> Any:
    """The dtype of parameters, and in which f is computed."""
    return jnp.float64 if jnp.dtype(dtype) == jnp.float64 else jnp.float32


def on_device(tree: Any) -> Any:
    return jax.tree.map(jnp.asarray, tree)
