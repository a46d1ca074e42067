"""Residual traces as a picture."""

from typing import Any, Literal

import numpy as np

from .._info import SolverInfo


def plot_convergence(
    info: SolverInfo,
    ax: Any = None,
    *,
    which: Literal["rel", "abs"] = "rel",
    tol: float | None = None,
    label: str | None = None,
) -> Any:
    """Draws the residual over the iterations: median of the samples, and where 80 % of them lie.

    A sample that has stopped counts on with the residual it had last.

    Args:
        info: of `deq`, outside `jit`.
        ax: Matplotlib axes to draw on; new ones if None.
        which: relative or absolute residuals.
        tol: draws a line there.
        label: of the median's line; draw several solves on the same axes and add a legend.

    Returns:
        The axes.

    Raises:
        ImportError: Matplotlib is not installed.
        ValueError: `which` is neither; or the solve has no trace: `max_iter=0`, an empty batch.

    Example:
        >>> import matplotlib; matplotlib.use("Agg")
        >>> import jax.numpy as jnp, jdeq
        >>> _, info = jdeq.deq(lambda z: jnp.cos(z), jnp.zeros((4, 3)))
        >>> jdeq.plot_convergence(info, tol=1e-5).get_yscale()
        'log'
    """
    if which not in ("rel", "abs"):
        raise ValueError(f"which must be 'rel' or 'abs', got {which!r}")
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError('plots need Matplotlib: pip install "jdeq[zoo]"') from error
    trace, final = (
        (info.rel_trace, info.rel_residual)
        if which == "rel"
        else (info.abs_trace, info.abs_residual)
    )
    trace = np.asarray(trace, np.float64)
    if not trace.size:
        raise ValueError("nothing to plot: the solve was of no samples or of no iterations")
    trace = trace.reshape(-1, trace.shape[-1])
    trace = _hold(trace[:, : iterations_made(trace)], np.ravel(final))
    low, median, high = np.quantile(trace, [0.1, 0.5, 0.9], axis=0)
    if ax is None:
        _, ax = pyplot.subplots(figsize=(5, 3.2), layout="constrained")
    steps = np.arange(1, len(median) + 1)
    (line,) = ax.plot(steps, median, label=label or f"median of {len(trace)} samples")
    ax.fill_between(steps, low, high, color=line.get_color(), alpha=0.25, linewidth=0)
    if tol is not None:
        ax.axhline(tol, color="0.4", linewidth=1, linestyle="--")
    ax.set_yscale("log")
    ax.set_xlabel("iteration")
    ax.set_ylabel(f"{'relative' if which == 'rel' else 'absolute'} residual")
    return ax


def iterations_made(trace: np.ndarray) -> int:
    """After how many iterations, at least one, all samples hold the residual that they end with."""
    changing = np.flatnonzero(np.any(trace != trace[:, -1:], axis=0))
    return min(trace.shape[1], changing[-1] + 2) if changing.size else 1


def _hold(trace: np.ndarray, final: np.ndarray) -> np.ndarray:
    """The traces with what is not finite replaced by the number before, at the start by `final`."""
    known = np.isfinite(trace)
    position = np.where(known, np.arange(trace.shape[1])[None], 0)
    held = np.take_along_axis(trace, np.maximum.accumulate(position, 1), 1)
    return np.where(np.isfinite(held), held, final[:, None])
