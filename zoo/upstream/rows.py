"""Compares named arrays with a reference, and prints what the comparison found."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class Tolerances(NamedTuple):
    """Largest relative errors, and how tightly the equilibria are solved for them."""

    function: float
    equilibrium: float
    solve: float


FLOAT64 = Tolerances(function=1e-9, equilibrium=1e-7, solve=1e-12)
FLOAT32 = Tolerances(function=1e-3, equilibrium=1e-3, solve=1e-6)


@dataclasses.dataclass(frozen=True)
class Row:
    """One compared quantity; `error` is the largest relative error, infinite if not comparable."""

    quantity: str
    error: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether the error is inside the tolerance (NaN is not)."""
        return self.error <= self.tolerance


def relative_error(got, want, *, scale: float | None = None) -> float:
    """max|got - want| / max|want|, or over `scale`; 0 for equal, inf for another shape."""
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        return float("inf")
    difference = float(np.max(np.abs(got - want), initial=0.0))
    if difference == 0.0:
        return 0.0
    scale = float(np.max(np.abs(want), initial=0.0)) if scale is None else scale
    return difference / scale if scale else float("inf")


def compare(quantity: str, got, want, tolerance: float) -> Row:
    """The row of one array."""
    return Row(quantity, relative_error(got, want), tolerance)


def verdict(quantity: str, ok: bool) -> Row:
    """The row of something that is right or wrong."""
    return Row(quantity, 0.0 if ok else float("inf"), 0.0)


def compare_many(
    quantity: str,
    got: Mapping[str, np.ndarray],
    want: Mapping[str, np.ndarray],
    tolerance: float,
    *,
    common_scale: bool = False,
) -> Row:
    """One row for arrays of many names: the worst of them, which it names.

    Args:
        quantity: what they are.
        got, want: arrays by name; a name on one side only counts as an infinite error.
        tolerance: largest relative error allowed in each array, on that array's own scale.
        common_scale: an array whose own entries are rounding noise is measured on the scale of
            the largest entry of all arrays instead. For gradients: that of a bias before a
            batch norm is exactly zero in theory, and noise around 1e-17 in practice. Noise is
            what lies below 1e4 rounding units of that largest entry. And no array must be closer
            than 8 of these units: it is made of sums with terms of that size.
    """
    largest = max((float(np.max(np.abs(a), initial=0.0)) for a in want.values()), default=0.0)
    errors = {}
    for name in sorted(got.keys() | want.keys()):
        if name not in got or name not in want:
            errors[name] = float("inf")
            continue
        own = float(np.max(np.abs(want[name]), initial=0.0))
        unit = float(np.finfo(np.asarray(want[name]).dtype).eps) * largest
        if common_scale:
            own = largest if own < 1e4 * unit else max(own, 8 * unit / tolerance)
        errors[name] = relative_error(got[name], want[name], scale=own)
    if not errors:
        return Row(f"{quantity} (no arrays)", 0.0, tolerance)
    worst = max(errors, key=lambda name: np.nan_to_num(errors[name], nan=np.inf))
    return Row(f"{quantity}: {len(errors)} arrays, worst {worst}", errors[worst], tolerance)


def table(rows: list[Row]) -> str:
    """The rows as aligned text, one line each under a header."""
    width = max(len(row.quantity) for row in rows)
    lines = [f"{'quantity':{width}}  largest relative error  tolerance  ok"]
    for row in rows:
        verdict = "yes" if row.ok else "NO"
        lines.append(f"{row.quantity:{width}}  {row.error:22.2e}  {row.tolerance:9.0e}  {verdict}")
    return "\n".join(lines)
