"""Matrices by their rows: what SciPy calls CSR."""

import os

import numpy as np


def dense(starts: np.ndarray, columns: np.ndarray, values: np.ndarray, features: int) -> np.ndarray:
    """The matrix (N, p) in float32; what is there twice adds up.

    Args:
        starts: (N + 1,), where each row's entries begin.
        columns, values: (E,), of the entries.
        features: p.

    Raises:
        ValueError: these do not fit together, or the matrix is larger than the memory.
    """
    whole = starts.ndim == columns.ndim == values.ndim == 1 and len(starts) > 0
    counts = np.diff(starts) if whole else np.array([-1])
    if counts.min(initial=0) < 0 or starts[0] != 0 or starts[-1] != len(columns):
        raise ValueError("the rows of a matrix do not fit its entries")
    if len(values) != len(columns):
        raise ValueError(f"a matrix has {len(columns)} columns of {len(values)} entries")
    if columns.min(initial=0) < 0 or columns.max(initial=-1) >= features:
        raise ValueError(f"a matrix of {features} columns has another one")
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if 4 * len(counts) * features > there:
        raise ValueError(f"a matrix of {len(counts)} times {features} is more than the memory")
    x = np.zeros((len(counts), features), np.float32)
    np.add.at(x, (np.repeat(np.arange(len(counts)), counts), columns), values)
    return x
