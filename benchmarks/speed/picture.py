"""The results as a picture: times of the grid, and growth."""

import pathlib

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from .results import Results
from .summary import Row, measured

COLOURS = {"jdeq": "C0", "torchdeq": "C3", "jaxopt": "C2", "optimistix": "C1"}


def draw(path: pathlib.Path, results: Results) -> None:
    """Overheads of forward solves, totals of forward + IFT relative to jdeq, growth."""
    rows = list(results.rows("grid").values())
    panels = 2 * bool(rows) + bool(results.rows("growth"))
    if not panels:
        return
    figure = Figure(figsize=(7 * panels, 8), layout="constrained")
    axes = list(np.atleast_1d(figure.subplots(1, panels)))
    if rows:
        forward = [row for row in rows if row["backward"] is None]
        implicit = [row for row in rows if (row["backward"] or "").startswith("IFT")]
        overhead = lambda row, entry: entry["overhead"]
        scatter(axes.pop(0), forward, overhead, "forward: total / time of as many f")
        relative = lambda row, entry: entry["total_ms"] / row["libraries"]["jdeq"]["total_ms"]
        implicit = [row for row in implicit if measured(row, "jdeq")]
        scatter(axes.pop(0), implicit, relative, "forward + IFT: total / total of jdeq")
    if axes:
        growth(axes[0], results.rows("growth"))
    machine = results.machine
    caption = f"{machine['date']}, {machine['cpu']}, {machine['threads']} threads"
    figure.supxlabel(caption, fontsize=9)
    FigureCanvasAgg(figure).print_png(str(path))


def scatter(axes, rows: list[Row], value, name: str) -> None:
    """A line for each function, solver and backward; a dot for each library and tolerance."""
    label = lambda row: " + ".join(filter(None, (row["solver"], row["backward"])))
    lines = list(dict.fromkeys((row["function"], label(row)) for row in rows))[::-1]
    for library, colour in COLOURS.items():
        points = [
            (value(row, entry), lines.index((row["function"], label(row))))
            for row in rows
            if (entry := measured(row, library))
        ]
        if points:
            axes.plot(*zip(*points, strict=True), "o", color=colour, label=library, alpha=0.7)
    if axes.lines:
        axes.legend(fontsize=8)
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(lines)), [f"{f}: {s}" for f, s in lines], fontsize=6)
    axes.set_title(name)
    axes.grid(alpha=0.3)


def growth(axes, rows: dict[str, Row]) -> None:
    for name, row in rows.items():
        axes.loglog(row["sizes"], row["ms"], "o-", label=f"{name}: slope {row['slope']:.2f}")
    axes.set_title("ms per iteration")
    axes.set_xlabel("B, or D m")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.05))
