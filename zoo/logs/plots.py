"""Pictures of runs."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jdeq.diagnostics.plot import iterations_made
from zoo.figures import Figures

STYLES = {"train": {"alpha": 0.6}, "valid": {"marker": "o"}, "test": {"marker": "s"}}
TITLES = {"residual": "relative residual", "nfe": "evaluations of f"}
Rows = Sequence[Mapping[str, Any]]


class SolveTrace(NamedTuple):
    """How a solver converged on the test split.

    `trace` (N, max_iter) is the residual of each sample after each iteration; `tol` and
    `stop_mode` (`"abs"` or `"rel"`) are the solver's.
    """

    trace: np.ndarray
    stop_mode: str
    tol: float


def plot_runs(
    path: pathlib.Path, runs: Mapping[str, Rows], figures: Figures, solver: SolveTrace | None = None
) -> None:
    """Writes a PNG with loss, figures, residual and evaluations of `f` over the steps.

    Args:
        path: the file.
        runs: the lines of each run's `metrics.jsonl`, by the name of the run.
        figures: what the model is judged by.
        solver: if given, a last panel shows how the solver converged.
    """
    # a figure that falls does so by decades
    scales = {"loss": "log"} | {
        name: "linear" if figure.higher_is_better else "log" for name, figure in figures.items()
    }
    scales |= {"residual": "log", "nfe": "linear"}
    n = len(scales) + (solver is not None)
    picture = Figure(figsize=(5 * n, 4), layout="constrained")
    panels = picture.subplots(1, n)
    for number, (name, rows) in enumerate(runs.items()):
        for split, style in STYLES.items():
            of = [row for row in rows if row["split"] == split]
            label = split if len(runs) == 1 else f"{name}, {split}"
            style = style | {"label": label}
            if len(runs) > 1:
                style |= {"color": f"C{number}"}
            for axes, of_panel in zip(panels, scales, strict=False):
                _curve(axes, of, of_panel, style)
    for axes, (of_panel, scale) in zip(panels, scales.items(), strict=False):
        title = TITLES.get(of_panel, of_panel)
        axes.set(title=title[0].upper() + title[1:], xlabel="step", ylabel=title)
        if scale == "linear" or _positive(axes):
            axes.set_yscale(scale)
    if solver is not None:
        _convergence(panels[-1], *solver)
    for axes in panels:
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    FigureCanvasAgg(picture).print_png(str(path))


def _curve(axes, rows: Rows, name: str, style: Mapping[str, Any]) -> None:
    points = [(row["step"], row[name]) for row in rows if name in row]
    if points:
        axes.plot(*zip(*points, strict=True), **style)


def _positive(axes) -> bool:
    """Whether a logarithmic scale has anything to show."""
    return any(np.any(np.asarray(line.get_ydata(), float) > 0) for line in axes.get_lines())


def _convergence(axes, trace: np.ndarray, stop_mode: str, tol: float) -> None:
    if np.isfinite(trace).any():
        trace = trace[:, : iterations_made(trace)]  # to the end samples hold what they stopped with
        low, middle, high = np.nanquantile(trace, (0.05, 0.5, 0.95), axis=0)
        iterations = 1 + np.arange(trace.shape[1])
        axes.fill_between(iterations, low, high, alpha=0.3, label="5 % to 95 % of test samples")
        axes.plot(iterations, middle, label="median")
    axes.axhline(tol, color="black", linestyle="--", label=f"tolerance {tol:g}")
    kind = {"abs": "absolute", "rel": "relative"}[stop_mode]
    axes.set(
        title="Solver on the test set", xlabel="iteration", ylabel=f"{kind} residual", yscale="log"
    )
