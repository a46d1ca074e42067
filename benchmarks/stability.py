"""`python -m benchmarks.stability`: what normalisation and the Jacobian penalty do in training.

Trains small multiscale DEQs on the 8x8 digits with the zoo's trainer, by two solvers, at the usual
learning rate and at a high one where most of the plain models fail. Every finished run is a line
of `stability.jsonl` and is not made again, so that an interrupted command goes on where it was;
then come `stability.md` and `stability.png`.
"""

import argparse
import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
import platform
import tempfile
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import jdeq
from jdeq.diagnostics.plot import iterations_made
from zoo.registry import get_task
from zoo.run import RunConfig
from zoo.training.fit import Diverged
from zoo.training.trainer import Trainer

MODELS = {  # what each one sets in the preset's DEQ options
    "none": {"norm_type": "none"},
    "weight_norm": {"norm_type": "weight_norm"},
    "spectral_norm": {"norm_type": "spectral_norm"},
    "weight_norm + penalty": {"norm_type": "weight_norm", "jac_loss_weight": 0.5},
}
RATES = {"fixed_point_iter": (0.1, 4.0), "broyden": (0.1, 8.0)}  # usual, and too high for "none"
SETTINGS = [(solver, lr) for solver, lrs in RATES.items() for lr in lrs]
COLUMNS = {  # of the table; how each value is printed
    "accuracy": ("test accuracy, %", "{:.1f}", 100),
    "residual": ("relative residual, %", "{:.2f}", 100),
    "steps_taken": ("steps per solve", "{:.1f}", 1),
    "unconverged": ("unconverged, %", "{:.1f}", 100),
    "radius": ("spectral radius", "{:.2f}", 1),
}
CHANCE = 0.15  # test accuracy up to this counts as diverged; guessing gives 0.10
RADIUS_IMAGES = 64
Row = dict[str, Any]


def configure(model: str, solver: str, lr: float, seed: int, steps: int) -> RunConfig:
    """The zoo's `quick` preset, narrower, with one model's options."""
    run = RunConfig.of_preset(get_task("mdeq"), "quick", seed=seed)
    sizes = {"channels": (8, 8), "head_channels": (4, 4), "final_channels": 32}
    once = {"eval_every": steps, "save_every": steps}
    return dataclasses.replace(
        run,
        model=dataclasses.replace(run.model, **sizes),
        deq=dataclasses.replace(run.deq, f_solver=solver, **MODELS[model]),
        train=dataclasses.replace(run.train, lr=lr, steps=steps, **once),
    )


def identity(config: RunConfig) -> str:
    """The same for equal runs only."""
    return hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True).encode()).hexdigest()[:12]


def measure(config: RunConfig) -> dict[str, float | bool]:
    """Trains, then evaluates on the test images, whether or not the loss stayed finite."""
    task = get_task(config.name)
    data = task.load_data(config.data, None, model=config.model, meta={})
    trainer = Trainer(task, config, data)
    with tempfile.TemporaryDirectory() as folder:
        try:
            evaluation = trainer.fit(pathlib.Path(folder))
        except Diverged:
            evaluation = trainer.evaluate()
    finite = int(trainer.state.skips.total) == 0
    return {
        "accuracy": evaluation.figures["accuracy"],
        "residual": evaluation.residual,
        "steps_taken": float(np.mean([iterations_made(row[None]) for row in evaluation.trace])),
        "unconverged": 1 - evaluation.converged,
        "radius": spectral_radius(trainer, next(data.test.eval_batches(RADIUS_IMAGES))[0]["x"]),
        "finite": finite,
    }


def spectral_radius(trainer: Trainer, images: np.ndarray) -> float:
    """The mean over images of the Jacobian's spectral radius at the state that was found."""
    config = trainer.config
    model = nnx.eval_shape(lambda: trainer.task.build(config.model, config.deq, rngs=nnx.Rngs(0)))
    model.eval()
    graphdef = nnx.graphdef(model)

    @jax.jit
    def radii(params: nnx.State, rest: nnx.State) -> jax.Array:
        model: Any = nnx.merge(graphdef, params, rest)
        x = model.encode(images)
        z, _ = model.full_stage(x)
        return jdeq.spectral_radius(model.full_stage.f(x), z, jax.random.key(0), n_iters=60)

    params, rest = trainer.state.params, trainer.state.rest
    return float(radii(params, rest).mean())


def run_all(path: pathlib.Path, seeds: int, steps: int) -> list[Row]:
    """All rows; makes those that are not in the file, and adds each at once."""
    lines = path.read_text().splitlines() if path.exists() else []
    known = {row["run"]: row for row in map(json.loads, lines)}
    keys = [
        (*setting, seed, model) for setting in SETTINGS for seed in range(seeds) for model in MODELS
    ]
    rows = []
    for i, (solver, lr, seed, model) in enumerate(keys, start=1):
        config = configure(model, solver, lr, seed, steps)
        run = identity(config)
        if run not in known:
            about = {"model": model, "solver": solver, "lr": lr, "seed": seed, "steps": steps}
            known[run] = {"run": run, **about, **measure(config)}
            temporary = path.with_suffix(".tmp")  # so that no line is ever cut off
            temporary.write_text("".join(json.dumps(row) + "\n" for row in known.values()))
            temporary.replace(path)
        rows.append(known[run])
        values = ", ".join(f"{name} {known[run][name]:.3g}" for name in COLUMNS)
        print(f"[{i}/{len(keys)}] {model}, {solver}, lr {lr:g}, seed {seed}: {values}", flush=True)
    return rows


def diverged(row: Row) -> bool:
    return not row["finite"] or row["accuracy"] <= CHANCE


def select(rows: Sequence[Row], solver: str, lr: float, model: str) -> list[Row]:
    """One setting's rows, a seed each."""
    return [r for r in rows if (r["solver"], r["lr"], r["model"]) == (solver, lr, model)]


def values_of(rows: Sequence[Row], name: str) -> np.ndarray:
    """A column's finite values, in the unit of the table."""
    values = np.array([COLUMNS[name][2] * row[name] for row in rows])
    return values[np.isfinite(values)]


def table(rows: Sequence[Row]) -> str:
    """Markdown: mean and standard deviation over the seeds."""
    titles = ["solver", "lr", "model", *(title for title, _, _ in COLUMNS.values()), "diverged"]
    lines = ["| " + " | ".join(titles) + " |", "| --- | ---: | --- |" + " ---: |" * 6]
    for solver, lr in SETTINGS:
        for model in MODELS:
            mine, cells = select(rows, solver, lr, model), [solver, f"{lr:g}", model]
            for name, (_, form, _) in COLUMNS.items():
                values = values_of(mine, name)
                mean = values.mean() if len(values) else np.nan
                spread = values.std(ddof=1) if len(values) > 1 else 0.0
                cells.append(f"{form.format(mean)} ± {form.format(spread)}")
            cells.append(f"{sum(map(diverged, mine))} of {len(mine)}")
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(path: pathlib.Path, rows: Sequence[Row], caption: str) -> None:
    """A row for each solver, a panel for each column; bars are means, dots are seeds."""
    figure = Figure(figsize=(15, 7), layout="constrained")
    panels = figure.subplots(len(RATES), len(COLUMNS), sharey="col")
    for line, (solver, lrs) in zip(panels, RATES.items(), strict=True):
        for axes, name in zip(line, COLUMNS, strict=True):
            for i, model in enumerate(MODELS):
                for j, lr in enumerate(lrs):
                    values = values_of(select(rows, solver, lr, model), name)
                    at = j + (i - (len(MODELS) - 1) / 2) / (len(MODELS) + 1)
                    label = model if axes is panels[0, 0] and j == 0 else None
                    if len(values):
                        axes.bar(at, values.mean(), 0.18, color=f"C{i}", alpha=0.6, label=label)
                    axes.plot(np.full(len(values), at), values, "k.", markersize=5)
            axes.set_title(COLUMNS[name][0])
            axes.set_xticks(range(len(lrs)), [f"lr {lr:g}" for lr in lrs])
            axes.tick_params(labelleft=True)
            axes.grid(axis="y", alpha=0.3)
        line[0].set_ylabel(solver)
    figure.legend(loc="outside upper center", ncols=len(MODELS))
    figure.supxlabel(f"bars: means, dots: seeds; {caption}", fontsize=9)
    FigureCanvasAgg(figure).print_png(str(path))


def machine() -> str:
    """Date, processor, cores and version."""
    cpu = platform.processor() or platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        cpu = names[0].split(":")[1].strip() if names else cpu
    return f"{datetime.date.today()}, {cpu}, {os.cpu_count()} cores, jax {jax.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each setting (3)")
    parser.add_argument("--steps", type=int, default=100, help="training steps of each run (100)")
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "results"
    )
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rows = run_all(args.out / "stability.jsonl", args.seeds, args.steps)
    about = f"{args.steps} steps, mean ± standard deviation of {args.seeds} seeds. {machine()}"
    text = (
        "A small MDEQ on the 8x8 digits; 360 test images, up to 45 steps to a relative residual of "
        f"1 %. Diverged: a loss that is not finite, or an accuracy of at most {CHANCE:.0%}.\n\n"
        f"{table(rows)}\n\n{about}\n"
    )
    (args.out / "stability.md").write_text(text)
    plot(args.out / "stability.png", rows, about)
    print(f"\n{text}")


if __name__ == "__main__":
    main()
