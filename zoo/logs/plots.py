"""Pictures of runs."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jdeq.diagnostics.plot import iterations_made
from zoo.figures import Figures
from zoo.pictures import Pictures

MARKERS = {"train": "", "valid": "o", "test": "s"}
TITLES = {"residual": "relative residual", "nfe": "evaluations of f"}
COUNTS = ("nfe",)  # whole numbers
PANEL = (4.6, 3.6)  # inches: text of 10 points can be read where the whole picture is seen
RAW = 0.4  # how much of a curve's colour its points have, where a smoothed one is drawn over them
SMOOTHED_OVER = 1 / 15  # of the points, on either side
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
    path: pathlib.Path,
    runs: Mapping[str, Rows],
    figures: Figures,
    solver: SolveTrace | None = None,
    pictures: Pictures | None = None,
) -> None:
    """Writes a PNG with loss, figures, residual and evaluations of `f` over the steps.

    Args:
        path: the file.
        runs: the lines of each run's `metrics.jsonl`, by the name of the run.
        figures: what the model is judged by.
        solver: if given, a panel shows how the solver converged.
        pictures: if given, a panel shows them, and what was predicted.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    # a figure that falls does so by decades
    scales = {"loss": "log"} | {
        name: "linear" if figure.higher_is_better else "log" for name, figure in figures.items()
    }
    scales |= {"residual": "log", "nfe": "linear"}
    n = len(scales) + (solver is not None) + (pictures is not None)
    columns = math.ceil(n / 2)
    width, height = PANEL
    picture = Figure(figsize=(columns * width, 2 * height + 0.4), layout="constrained", dpi=110)
    panels = list(picture.subplots(2, columns, squeeze=False).flat)
    for axes in panels[n:]:
        axes.set_axis_off()
    for axes, (name, scale) in zip(panels, scales.items(), strict=False):
        _over_steps(axes, runs, name, scale)
    named = (zip(*axes.get_legend_handles_labels(), strict=True) for axes in panels)
    curves = {label: line for pairs in named for line, label in pairs}  # each name once
    if curves:
        picture.legend(
            curves.values(), curves.keys(), loc="outside upper center", ncols=min(len(curves), 6)
        )
    others = iter(panels[len(scales) :])
    if solver is not None:
        _convergence(next(others), *solver)
    if pictures is not None:
        _mosaic(next(others), pictures)
    FigureCanvasAgg(picture).print_png(str(path))


def smoothed(values: np.ndarray) -> np.ndarray:
    """The mean over the neighbours of each value, NaN left out; fewer of them at the ends.

    Example:
        >>> smoothed(np.array([0.0, 2.0] * 20))[20].round(1)
        0.8
    """
    reach = int(len(values) * SMOOTHED_OVER)
    means = []
    for i in range(len(values)):
        near = values[max(i - reach, 0) : i + reach + 1]
        near = near[np.isfinite(near)]
        # rounding would make a curve of what is constant
        means.append(np.clip(near.mean(), near.min(), near.max()) if near.size else math.nan)
    return np.array(means, float)


def _over_steps(axes, runs: Mapping[str, Rows], name: str, scale: str) -> None:
    for number, (run, rows) in enumerate(runs.items()):
        for i, (split, marker) in enumerate(MARKERS.items()):
            of = [row for row in rows if row["split"] == split and name in row]
            label = split if len(runs) == 1 else f"{run}, {split}"
            color = f"C{i if len(runs) == 1 else number}"
            if of:
                steps, values = (np.array([row[key] for row in of]) for key in ("step", name))
                _curve(axes, steps, values, marker, color=color, label=label)
    title = TITLES.get(name, name)
    axes.set(title=title[0].upper() + title[1:], xlabel="step", ylabel=title)
    if scale == "linear" or _positive(axes):
        axes.set_yscale(scale)  # which sets other ticks, too
    _count(axes.xaxis)
    if name in COUNTS:
        _count(axes.yaxis)
    axes.grid(alpha=0.3)


def _curve(axes, steps: np.ndarray, values: np.ndarray, marker: str, **style: Any) -> None:
    """A few points as they are; many, pale, below their smoothed curve."""
    curve = smoothed(values)
    if marker or np.array_equal(curve, values, equal_nan=True):
        axes.plot(steps, values, marker=marker or ".", **style)
        return
    axes.plot(steps, values, ".", markersize=4, alpha=RAW, color=style["color"])
    axes.plot(steps, curve, linewidth=2, **style)


def _count(axis) -> None:
    """Ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))


def _positive(axes) -> bool:
    """Whether a logarithmic scale has anything to show."""
    return any(np.any(np.asarray(line.get_ydata(), float) > 0) for line in axes.get_lines())


def _convergence(axes, trace: np.ndarray, stop_mode: str, tol: float) -> None:
    if np.isfinite(trace).any():
        trace = trace[:, : iterations_made(trace)]  # to the end samples hold what they stopped with
        low, middle, high = np.nanquantile(trace, (0.05, 0.5, 0.95), axis=0)
        iterations = 1 + np.arange(trace.shape[1])
        axes.fill_between(iterations, low, high, alpha=0.3, label="5 % to 95 % of samples")
        axes.plot(iterations, middle, label="median")
    axes.axhline(tol, color="black", linestyle="--", label=f"tolerance {tol:g}")
    kind = {"abs": "absolute", "rel": "relative"}[stop_mode]
    axes.set(
        title="Solver on the test set", xlabel="iteration", ylabel=f"{kind} residual", yscale="log"
    )
    _count(axes.xaxis)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, fontsize="small")


def _mosaic(axes, pictures: Pictures) -> None:
    """The pictures in rows, below each what was predicted: red, with the truth, if wrong."""
    columns = math.ceil(math.sqrt(1.6 * len(pictures.images)))
    low, high = pictures.images.min(), pictures.images.max()
    for i, image in enumerate(pictures.images):
        row, column = divmod(i, columns)
        shown = (image - low) / (high - low or 1)
        shown = np.broadcast_to(shown, (*shown.shape[:2], 3))
        place = (column, column + 0.9, row * 1.35 + 0.9, row * 1.35)
        axes.imshow(shown, extent=place)
        text, right = pictures.predicted[i], pictures.predicted[i] == pictures.true[i]
        color = "black" if right else "red"
        text = text if right else f"{text} ({pictures.true[i]})"
        axes.text(column + 0.45, row * 1.35 + 1.12, text, ha="center", va="center", color=color)
    rows = math.ceil(len(pictures.images) / columns)
    axes.set(xlim=(-0.1, columns), ylim=(rows * 1.35, -0.1), aspect="equal")
    axes.set_title("Test images, as predicted (in red: the truth)")
    axes.set_axis_off()
