"""The picture of a run."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from zoo.metrics import Metric


def plot_run(
    path: pathlib.Path,
    rows: Sequence[dict[str, Any]],
    metric: Metric,
    trace: np.ndarray,
    tolerance: tuple[str, float],
) -> None:
    """Writes a PNG with three panels: loss, metric, and how the solver converged.

    Args:
        path: the file.
        rows: the lines of `metrics.jsonl`.
        metric: what the model is judged by.
        trace: (N, max_iter), residual of each test sample after each iteration.
        tolerance: stop mode (`"abs"` or `"rel"`) and tolerance of the solver.
    """
    figure = Figure(figsize=(15, 4), layout="constrained")
    loss, figure_of_merit, solver = figure.subplots(1, 3)
    of = lambda split: [row for row in rows if row["split"] == split]
    _curve(loss, of("train"), "loss", label="train", alpha=0.6)
    _curve(figure_of_merit, of("train"), metric.name, label="train", alpha=0.6)
    for split in ("valid", "test"):
        _curve(loss, of(split), "loss", label=split, marker="o")
        _curve(figure_of_merit, of(split), "metric", label=split, marker="o")
    loss.set(title="Loss", xlabel="step", ylabel="loss", yscale="log")
    scale = "linear" if metric.higher_is_better else "log"  # one that falls does so by decades
    title = metric.name.capitalize()
    figure_of_merit.set(title=title, xlabel="step", ylabel=metric.name, yscale=scale)
    _convergence(solver, trace, *tolerance)
    for axes in (loss, figure_of_merit, solver):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    FigureCanvasAgg(figure).print_png(str(path))


def _curve(axes, rows: Sequence[dict[str, Any]], name: str, **style) -> None:
    if rows:
        axes.plot([row["step"] for row in rows], [row[name] for row in rows], **style)


def _convergence(axes, trace: np.ndarray, stop_mode: str, tol: float) -> None:
    used = np.isfinite(trace).any(axis=0)
    if used.any():
        trace = trace[:, used]
        # a sample that has stopped keeps the residual it stopped with
        for i in range(1, trace.shape[1]):
            trace[:, i] = np.where(np.isnan(trace[:, i]), trace[:, i - 1], trace[:, i])
        low, middle, high = np.nanquantile(trace, (0.05, 0.5, 0.95), axis=0)
        iterations = 1 + np.flatnonzero(used)
        axes.fill_between(iterations, low, high, alpha=0.3, label="5 % to 95 % of test samples")
        axes.plot(iterations, middle, label="median")
    axes.axhline(tol, color="black", linestyle="--", label=f"tolerance {tol:g}")
    kind = {"abs": "absolute", "rel": "relative"}[stop_mode]
    axes.set(
        title="Solver on the test set", xlabel="iteration", ylabel=f"{kind} residual", yscale="log"
    )
