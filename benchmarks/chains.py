"""`python -m benchmarks.chains`: how far information travels in an implicit graph network.

Trains the zoo's IGNN, and graph convolutions in its place, to tell the class that only a chain's
first node shows, at every node of chains of several lengths. A finished run is a line of
`chains.jsonl` and is not made again; then come `chains.md` and `chains.png`.
"""

import argparse
import dataclasses
import json
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from zoo.registry import get_task
from zoo.run import RunConfig
from zoo.training.fit import Diverged
from zoo.training.trainer import Trainer

LENGTHS = (10, 20, 40, 100)
MODELS = {  # preset, fields of the model, steps
    "IGNN, solved and differentiated exactly": ("chains", {}, 2000),
    "the published settings": ("chains-published", {}, 2000),
    "GCN of 2 layers": ("chains", {"explicit": 2}, 500),
    "GCN of 4 layers": ("chains", {"explicit": 4}, 500),
}
Row = dict[str, Any]


def configure(model: str, length: int, seed: int) -> RunConfig:
    """One run."""
    preset, fields, steps = MODELS[model]
    run = RunConfig.of_preset(get_task("ignn"), preset, seed=seed)
    return dataclasses.replace(
        run,
        model=dataclasses.replace(run.model, chain_length=length, **fields),
        train=dataclasses.replace(
            run.train, steps=steps, log_every=steps, eval_every=100, save_every=steps
        ),
    )


def measure(model: str, length: int, seed: int) -> Row:
    """Trains, and evaluates on the test nodes, whether or not the loss stayed finite."""
    config = configure(model, length, seed)
    task = get_task(config.name)
    data = task.load_data(config.data, None, model=config.model, meta={})
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, **data.sizes))
    trainer = Trainer(task, config, data)
    with tempfile.TemporaryDirectory() as folder:
        try:
            evaluation = trainer.fit(pathlib.Path(folder))
        except Diverged:
            evaluation = trainer.evaluate()
    return {
        "model": model,
        "length": length,
        "seed": seed,
        "accuracy": evaluation.figures["accuracy"],
        "converged": evaluation.converged,
        "skipped": int(trainer.state.skips.total),
    }


def run_all(path: pathlib.Path, seeds: int, lengths: Sequence[int]) -> list[Row]:
    """All rows; makes those that are not in the file, and adds each at once."""
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines]
    known = {(row["model"], row["length"], row["seed"]) for row in rows}
    for key in ((m, n, s) for s in range(seeds) for n in lengths for m in MODELS):
        if key not in known:
            row = measure(*key)
            with path.open("a") as file:
                file.write(json.dumps(row) + "\n")
            rows.append(row)
            print(row, flush=True)
    return rows


def accuracies(rows: Sequence[Row], model: str, length: int) -> np.ndarray:
    """One of each seed."""
    return np.array([r["accuracy"] for r in rows if (r["model"], r["length"]) == (model, length)])


def markdown(rows: Sequence[Row]) -> str:
    """A table of test accuracies, and how many steps had no finite gradient."""
    lengths = sorted({row["length"] for row in rows})
    seeds = len({row["seed"] for row in rows})
    text = "# Chains\n\n`python -m benchmarks.chains`: test accuracy in %, mean (lowest) over "
    text += f"{seeds} seed{'s' * (seeds > 1)}, 2 classes of 20 chains each. Chance is 50.\n\n"
    text += f"| | {' | '.join(f'{n} nodes' for n in lengths)} | steps without a finite gradient |\n"
    text += "| --- |" + " ---: |" * (len(lengths) + 1) + "\n"
    for model in MODELS:
        found = [100 * accuracies(rows, model, n) for n in lengths]
        cells = [f"{a.mean():.1f} ({a.min():.1f})" if len(a) else "" for a in found]
        skipped = sum(row["skipped"] for row in rows if row["model"] == model)
        text += f"| {model} | {' | '.join(cells)} | {skipped} |\n"
    return text


def draw(path: pathlib.Path, rows: Sequence[Row]) -> None:
    """Accuracy against length: means, and every seed as a point."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    lengths = sorted({row["length"] for row in rows})
    for model in MODELS:
        known = [n for n in lengths if len(accuracies(rows, model, n))]
        means = [100 * accuracies(rows, model, n).mean() for n in known]
        (line,) = axes.plot(known, means, marker="o", label=model)
        points = [(n, 100 * a) for n in known for a in accuracies(rows, model, n)]
        axes.plot(*zip(*points, strict=True), ".", color=line.get_color(), alpha=0.5)
    axes.axhline(50, color="0.7", linestyle=":", label="chance")
    axes.set_xscale("log")
    axes.set_xticks(lengths, [str(n) for n in lengths])
    axes.minorticks_off()
    axes.set_xlabel("nodes of a chain")
    axes.set_ylabel("test accuracy, %")
    axes.set_ylim(40, 103)
    figure.legend(fontsize="small", loc="outside upper center", ncols=2)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chains", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    here = pathlib.Path(__file__).parent / "results"
    parser.add_argument("--out", type=pathlib.Path, default=here, help="folder of the results")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rows = run_all(args.out / "chains.jsonl", args.seeds, args.lengths)
    (args.out / "chains.md").write_text(markdown(rows))
    draw(args.out / "chains.png", rows)
    print(markdown(rows))


if __name__ == "__main__":
    main()
