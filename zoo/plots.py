"""The picture of a run."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def plot_run(
    path: pathlib.Path,
    rows: Sequence[dict[str, Any]],
    trace: np.ndarray,
    tolerance: tuple[str, float],
) -> None:
    """Writes a PNG with three panels: loss, metric, and how the solver converged.

    Args:
        path: the file.
        rows: the lines of `metrics.jsonl`.
        trace: (N, max_iter), residual of each test sample after each iteration.
        tolerance: stop mode (`"abs"` or `"rel"`) and tolerance of the solver.
    """
    figure = Figure(figsize=(15, 4), layout="constrained")
    loss, metric, solver = figure.subplots(1, 3)
    train = [row for row in rows if row["split"] == "train"]
    test = [row for row in rows if row["split"] == "test"]
    _curve(loss, train, "loss", label="train", alpha=0.6)
    _curve(loss, test, "loss", label="test", marker="o")
    loss.set(title="Loss", xlabel="step", ylabel="loss", yscale="log")
    _curve(metric, train, _metric_name(train), label="train", alpha=0.6)
    _curve(metric, test, "metric", label="test", marker="o")
    metric.set(title="Accuracy", xlabel="step", ylabel=_metric_name(train))
    _convergence(solver, trace, *tolerance)
    for axes in (loss, metric, solver):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    FigureCanvasAgg(figure).print_png(str(path))


def _curve(axes, rows: Sequence[dict[str, Any]], name: str, **style) -> None:
    if rows:
        axes.plot([row["step"] for row in rows], [row[name] for row in rows], **style)


def _metric_name(rows: Sequence[dict[str, Any]]) -> str:
    known = {"step", "split", "loss", "residual", "nfe"}
    return next((name for row in rows[:1] for name in row if name not in known), "metric")


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
