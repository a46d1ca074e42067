"""What a reference folder has recorded, and how closely it must be met."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from zoo.ignn.layer import RHO_EPS
from zoo.ignn.propagation import Edges
from zoo.upstream.reference import Reference
from zoo.upstream.rows import Row


class Close(NamedTuple):
    """How far off a number may be: `rtol |want| + atol`."""

    rtol: float
    atol: float


class Tolerances(NamedTuple):
    """Of the sheet: for what is solved tightly, for the published stop rule, and after Adam."""

    values: Close
    gradients: Close
    stopped: Close
    stopped_gradients: Close
    adam: Close


FLOAT64 = Tolerances(
    values=Close(1e-9, 1e-10),
    gradients=Close(1e-6, 1e-9),
    stopped=Close(1e-7, 1e-10),
    stopped_gradients=Close(1e-7, 1e-9),
    adam=Close(1e-5, 1e-9),
)
FLOAT32 = Tolerances(
    values=Close(1e-4, 1e-5),
    gradients=Close(1e-3, 1e-5),
    stopped=Close(1e-4, 1e-5),
    stopped_gradients=Close(1e-3, 1e-5),
    adam=Close(1e-3, 1e-5),
)


class Inputs(NamedTuple):
    """One pack: features (1, N, p), edges, y, mask; `graph` (1, N) of each node, for graphs."""

    x: Array
    edges: Edges
    y: Array
    mask: Array
    graph: Array | None

    @classmethod
    def read(cls, reference: Reference, adjacency: str) -> "Inputs":
        """Those of a folder, with this one of its matrices if there are several."""
        matrix = reference[adjacency if adjacency in reference else "input/adj"]
        sources, targets = np.nonzero(matrix)
        of = lambda name: jnp.asarray(reference[name])[None]
        there = lambda name: f"input/{name}" in reference
        y = of("input/y")
        mask = np.ones(y.shape[:2])
        if there("idx_train"):
            mask = np.zeros(y.shape[:2])
            mask[0, reference["input/idx_train"]] = 1
        return cls(
            x=of("input/x") if there("x") else jnp.zeros((1, len(matrix), 0), matrix.dtype),
            edges=Edges(
                jnp.asarray(sources[None], jnp.int32),
                jnp.asarray(targets[None], jnp.int32),
                jnp.asarray(matrix[sources, targets][None]),
                jnp.asarray(reference["eval/adj_rho"][None] - RHO_EPS),
            ),
            y=y,
            mask=jnp.asarray(mask),
            graph=of("input/batch").astype(jnp.int32) if there("batch") else None,
        )


class Comparison:
    """Holds results against the arrays of a folder that have their names."""

    def __init__(self, reference: Reference):
        self.reference = reference
        double = reference["eval/output"].dtype == np.float64
        self.close = FLOAT64 if double else FLOAT32

    def rows(self, got: Mapping[str, Any], close: Close) -> Iterator[Row]:
        """One for each result."""
        for name, value in got.items():
            yield _row(name, value, self.reference[name], close)

    def row_of_all(self, prefix: str, got: Mapping[str, np.ndarray], close: Close) -> Row:
        """One for all arrays whose names begin with `prefix`, each of which must be there."""
        want = self.reference.files["io"].under(prefix)
        rows = [_row(name, got.get(name), array, close) for name, array in want.items()]
        worst = max(rows, key=lambda row: np.nan_to_num(row.error, nan=np.inf))
        title = f"{prefix.rstrip('/')}: {len(want)} arrays, worst {worst.quantity}"
        return dataclasses.replace(worst, quantity=title)

    def has(self, prefix: str) -> bool:
        """Whether there are arrays whose names begin with it."""
        return any(name.startswith(prefix) for name in self.reference.files["io"])


def _row(quantity: str, got: Any, want: np.ndarray, close: Close) -> Row:
    """The largest error relative to `|want| + atol / rtol`, which may be `rtol` at most."""
    error = np.inf
    if got is not None and np.shape(got) == want.shape:
        off = np.abs(np.asarray(got) - want)
        error = np.max(off / (np.abs(want) + close.atol / close.rtol), initial=0.0)
    return Row(quantity, float(error), close.rtol)
