"""An equilibrium function that every library can evaluate."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

State = tuple[np.ndarray, ...]  # leaves (B, ...); images are (B, ..., H, W, C)


class Graph(NamedTuple):
    """A sparse matrix of `size` rows: entries `(rows[i], cols[i]) = values[i]`, rows ascending."""

    rows: np.ndarray
    cols: np.ndarray
    values: np.ndarray
    size: int


@dataclasses.dataclass(frozen=True, eq=False)
class Function:
    """`f(theta, z)`, written once over the operations that a library offers.

    Args:
        name: of its rows.
        theta: what gradients are taken by: weights, and injections, whose names begin with `x`.
            Arrays of 4 axes are kernels HWIO, or injected images (..., H, W, C).
        z0: where every solve starts.
        formula: `(ops, theta, graph, z) -> z`.
        graph: for `ops.propagate`.
        jax_formula: what JAX evaluates instead, where the model is to be the zoo's own.
    """

    name: str
    theta: dict[str, np.ndarray]
    z0: State
    formula: Callable[..., tuple[Any, ...]]
    graph: Graph | None = None
    jax_formula: Callable[..., tuple[Any, ...]] | None = None

    def cotangent(self) -> State:
        """What the loss of gradient rows multiplies the solution with."""
        rng = np.random.default_rng(1)
        return tuple(rng.normal(size=z.shape).astype(z.dtype) for z in self.z0)

    def cast(self, dtype: Any) -> "Function":
        """The same in another dtype."""
        theta = {name: a.astype(dtype) for name, a in self.theta.items()}
        return dataclasses.replace(self, theta=theta, z0=tuple(z.astype(dtype) for z in self.z0))
