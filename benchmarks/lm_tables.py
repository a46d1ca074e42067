"""The tables, in Markdown, and the plot of `benchmarks.language_model`."""

import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from zoo.logs.metrics import read_metrics

from .lm_measures import Run, count, evaluated, sampled, seconds_per_step, step_memory

DEPTHS = (12, 24, 48)
GRADIENTS = {  # of the memory table; {} is the depth
    "implicit": "--ift --f_solver fixed_point_iter --f_max_iter {} --b_max_iter {}",
    "phantom, 5 steps": "--f_solver fixed_point_iter --f_max_iter {} --grad 5",
    "unrolled": "--f_max_iter 0 --grad {}",
    "unrolled, checkpointed": "--f_solver fixed_point_iter --f_max_iter {} --grad_type unroll",
}
MEMORIES = (0, 64, 128, 256)  # positions remembered in evaluation
TO_TOLERANCE = {"ift": True, "f_solver": "anderson", "f_max_iter": 60, "f_tol": 1e-3}
SAMPLING = {"f_solver": "fixed_point_iter", "f_max_iter": 100, "f_tol": 1e-3}
SMOOTHED = 20  # lines of the log per point of a curve


def quality(runs: Mapping[str, Run]) -> str:
    """How well each model does, and what a step costs."""
    rows = []
    for name, run in runs.items():
        last = {row["split"]: row for row in read_metrics(run.out)}  # of the last step
        train, deq = run.config.train, run.config.deq
        nfe = 1 if run.config.model.explicit else last["test"]["nfe"] if deq.ift else deq.grad
        rss = json.loads((run.out / "figures.json").read_text())["rss_mb"]
        rows.append(
            (
                name,
                f"{count(run):,}",
                f"{(run.before + train.steps) * run.step_tokens:,}",
                f"{last['valid']['perplexity']:.2f}",
                f"{last['test']['perplexity']:.2f}",
                f"{seconds_per_step(run):.3f}",
                f"{rss:.0f}",
                f"{nfe:.1f}",
                f"{last['test']['residual']:.1e}",
            )
        )
    names = "parameters|tokens seen|valid perplexity|test perplexity|s per step|peak RSS, MB|NFE"
    return _table(["model", *names.split("|"), "relative residual"], rows)


def solved(runs: Mapping[str, Run]) -> str:
    """All models, solved to a tolerance that training did not ask for."""
    rows = []
    for name, run in runs.items():
        found = evaluated(run.changed(TO_TOLERANCE, explicit=False))
        share = f"{100 * found.converged:.1f} %"
        figures = (
            f"{found.figures['perplexity']:.2f}",
            f"{found.residual:.1e}",
            share,
            f"{found.nfe:.1f}",
        )
        rows.append((name, *figures))
    return _table(["model", "test perplexity", "relative residual", "converged", "NFE"], rows)


def memory(options: str, folder: pathlib.Path | None) -> str:
    """Temporary memory of one training step against depth."""
    rows = []
    for name, gradient in GRADIENTS.items():
        lines = [f"{options} {gradient.format(depth, depth)}" for depth in DEPTHS]
        rows.append((name, *(f"{step_memory(line, folder) / 2**20:.1f}" for line in lines)))
    return _table(["gradient", *(f"depth {depth}" for depth in DEPTHS)], rows)


def remembering(runs: Mapping[str, Run]) -> str:
    """Perplexity against the positions remembered in evaluation."""
    rows = [
        (
            name,
            *(
                f"{evaluated(run.changed({}, eval_mem_len=n)).figures['perplexity']:.2f}"
                for n in MEMORIES
            ),
        )
        for name, run in runs.items()
    ]
    return _table(["model", *(f"`--eval_mem_len {n}`" for n in MEMORIES)], rows)


def sampling(runs: Mapping[str, Run], prompt: str) -> str:
    """Speed of sampling, from the last token's fixed point and from zero."""
    rows = []
    for name, run in _equilibria(runs).items():
        for start, warm in (("last fixed point", True), ("zero", False)):
            _, drawn = sampled(run, prompt, warm=warm, deq=SAMPLING)
            nfe = f"{np.mean(drawn.nfe):.1f}"
            rows.append((name, start, f"{drawn.tokens_per_second:.0f}", nfe))
    return _table(["model", "start of each solve", "tokens/s", "NFE per token"], rows)


def plot(path: pathlib.Path, runs: Mapping[str, Run], unit: str) -> None:
    """Perplexity of the training text, averaged over some steps, and of the validation text."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, run in runs.items():
        rows = read_metrics(run.out)
        log = [(r["step"], r["nll"]) for r in rows if r["split"] == "train"]
        whole = len(log) // SMOOTHED * SMOOTHED
        steps, nll = np.array(log[:whole]).reshape(-1, SMOOTHED, 2).mean(axis=1).T
        (line,) = axes.plot((run.before + steps) * run.step_tokens, np.exp(nll), alpha=0.5)
        valid = [(r["step"], r["perplexity"]) for r in rows if r["split"] == "valid"]
        steps, figures = np.array(valid).T
        color = line.get_color()
        axes.plot(
            (run.before + steps) * run.step_tokens,
            figures,
            "o-",
            color=color,
            label=f"{name} (validation)",
        )
    label = f"perplexity per {unit} (thin: training)"
    axes.set(xlabel=f"{unit}s seen", ylabel=label, yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    FigureCanvasAgg(figure).print_png(str(path))


def _equilibria(runs: Mapping[str, Run]) -> dict[str, Run]:
    return {name: run for name, run in runs.items() if not run.config.model.explicit}


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown; all columns but the first are numbers."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))
