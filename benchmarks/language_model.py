"""`python -m benchmarks.language_model`: equilibrium and explicit transformers, side by side.

Trains the zoo's language model three times with equal sizes, parameters, batches and seed, one
process each: as an explicit transformer, as a DEQ with the implicit gradient, and as a DEQ that is
unrolled. A run that was finished, or interrupted, is not made again, but read or resumed. Then
come `language_model.md` and `language_model.png`.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from zoo.checkpoints.checkpoint import find_checkpoint
from zoo.checkpoints.saved import saved_run
from zoo.logs.metrics import read_metrics
from zoo.registry import get_task

from .lm_measures import Run, count, evaluated, machine, sampled, seconds_per_step, step_memory

ONE_CORE = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
COMMON = (  # the design that has an isolated equilibrium, for all of them
    "--preset quick --design deq_seq --no-pre_norm --d_model 96 --d_embed 96 --d_inner 384 "
    "--batch_size 8 --lr 2e-3 --log_every 5 --save_every 200"
)
IMPLICIT = (
    "--ift --f_solver broyden --f_max_iter 15 --f_tol 1e-2 "
    "--b_solver broyden --b_max_iter 15 --b_tol 1e-2 --jac_loss_weight 0.1 --jac_loss_freq 0.4"
)
ROWS = {  # what each one adds to the command line
    "explicit transformer": "--explicit",
    "DEQ, implicit gradient": IMPLICIT,
    "DEQ, 8 steps unrolled": "--f_max_iter 0 --grad 8",
}
DEPTHS = (12, 24, 48)
GRADIENTS = {  # of the memory table; {} is the depth
    "implicit": "--ift --f_solver fixed_point_iter --f_max_iter {} --b_max_iter {}",
    "phantom, 5 steps": "--f_solver fixed_point_iter --f_max_iter {} --grad 5",
    "unrolled": "--f_max_iter 0 --grad {}",
    "unrolled, checkpointed": "--f_solver fixed_point_iter --f_max_iter {} --grad_type unroll",
}
MEMORIES = (0, 64, 256)  # positions remembered in evaluation
PROMPT = "def "
SMOOTHED = 20  # lines of the log per point of a curve


def command(options: str, steps: int, out: pathlib.Path) -> list[str]:
    """The training command of a row."""
    return f"train lm {COMMON} --steps {steps} --eval_every {steps} {options} --out {out}".split()


def train(name: str, steps: int, out: pathlib.Path) -> None:
    """Makes a run in a process of its own, for its own peak memory."""
    figures = out / "figures.json"
    if figures.exists():
        return
    resume = ["--resume"] if (out / "checkpoints").exists() else []
    argv = [sys.executable, "-m", "zoo", *command(ROWS[name], steps, out), *resume]
    print(" ".join(argv[1:]), flush=True)
    process = subprocess.Popen(argv, env=os.environ | {"XLA_FLAGS": ONE_CORE})
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"the run {name!r} failed")
    figures.write_text(json.dumps({"rss_mb": usage.ru_maxrss / 1024}))


def row_of(run: Run, out: pathlib.Path) -> dict[str, Any]:
    """The figures of a finished run."""
    last = read_metrics(out)[-1]
    train = run.config.train
    return {
        "parameters": count(run),
        "tokens": train.steps * train.batch_size * run.config.model.tgt_len,
        "perplexity": last["metric"],
        "seconds": seconds_per_step(run),
        "residual": last["residual"],
        "converged": last["converged"],
        "nfe": last["nfe"],
        **json.loads((out / "figures.json").read_text()),
    }


def quality_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: how well each model does, and what a step costs."""
    lines = [
        "| model | parameters | tokens seen | test perplexity | s per step | peak RSS, MB | "
        "relative residual |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, row in rows.items():
        lines.append(
            f"| {name} | {row['parameters']:,} | {row['tokens']:,} | {row['perplexity']:.2f} | "
            f"{row['seconds']:.3f} | {row['rss_mb']:.0f} | {row['residual']:.1e} |"
        )
    return "\n".join(lines)


def memory_table() -> str:
    """Markdown: temporary memory of one training step against depth."""
    lines = [
        "| gradient | " + " | ".join(f"depth {depth}" for depth in DEPTHS) + " |",
        "| --- |" + " ---: |" * len(DEPTHS),
    ]
    for name, options in GRADIENTS.items():
        sizes = [step_memory(COMMON + " " + options.format(*[d] * 2)) / 2**20 for d in DEPTHS]
        lines.append(f"| {name} | " + " | ".join(f"{size:.1f}" for size in sizes) + " |")
    return "\n".join(lines)


def remembering_table(runs: Mapping[str, Run]) -> str:
    """Markdown: perplexity against the positions remembered in evaluation."""
    lines = [
        "| model | " + " | ".join(f"`--eval_mem_len {n}`" for n in MEMORIES) + " |",
        "| --- |" + " ---: |" * len(MEMORIES),
    ]
    for name, run in runs.items():
        values = [f"{evaluated(run, eval_mem_len=n).metric:.2f}" for n in MEMORIES]
        lines.append(f"| {name} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def sampling_table(runs: Mapping[str, Run]) -> str:
    """Markdown: speed of sampling, from the last token's fixed point and from zero."""
    lines = [
        "| model, solver | start of each solve | tokens/s | NFE per token |",
        "| --- | --- | ---: | ---: |",
    ]
    solver = {"f_solver": "fixed_point_iter", "f_max_iter": 60, "f_tol": 1e-3}
    for name, run in runs.items():
        if run.config.model.explicit:
            continue
        for start, warm in (("last fixed point", True), ("zero", False)):
            drawn = sampled(run, PROMPT, warm=warm, deq=solver)[1]
            nfe = np.mean(drawn.nfe)
            lines.append(f"| {name} | {start} | {drawn.tokens_per_second:.0f} | {nfe:.1f} |")
    return "\n".join(lines)


def plot(path: pathlib.Path, outs: Mapping[str, pathlib.Path]) -> None:
    """Perplexity on the text that is about to be learnt from, which is new in the first pass."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, out in outs.items():
        log = [(r["step"], r["nll"]) for r in read_metrics(out) if r["split"] == "train"]
        whole = len(log) // SMOOTHED * SMOOTHED
        steps, nll = np.array(log[:whole]).reshape(-1, SMOOTHED, 2).mean(axis=1).T
        axes.plot(steps, np.exp(nll), label=name)
    axes.set(xlabel="step", ylabel="training perplexity, per character", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    FigureCanvasAgg(figure).print_png(str(path))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1200, help="of each run (1200)")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/language_model"))
    results = pathlib.Path(__file__).parent / "results"
    parser.add_argument("--out", type=pathlib.Path, default=results)
    args = parser.parse_args(argv)
    outs = {name: args.runs / str(i) for i, name in enumerate(ROWS)}
    for name, out in outs.items():
        train(name, args.steps, out)
    task = get_task("lm")
    saved = {name: find_checkpoint(out) for name, out in outs.items()}
    runs = {name: Run(saved_run(task, saved[name]), saved[name]) for name in outs}
    best = runs["DEQ, 8 steps unrolled"]
    text = REPORT.format(
        quality=quality_table({name: row_of(run, outs[name]) for name, run in runs.items()}),
        commands="\n".join(
            " ".join(["$ python -m zoo", *command(options, args.steps, pathlib.Path("DIR"))])
            for options in ROWS.values()
        ),
        memory=memory_table(),
        remembering=remembering_table(runs),
        sampling=sampling_table(runs),
        sample=sampled(best, PROMPT, warm=True)[0],
        machine=machine(),
    )
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "language_model.md").write_text(text)
    plot(args.out / "language_model.png", outs)
    print(text)


REPORT = """\
Character-level language models of Python's own sources (the zoo's `quick` preset, 200,000 test
characters), each trained on one core with equal parameters, batches and seed.
{machine}. Perplexity is per character.

{quality}

Seconds are CPU time of one core, medians; the residual is that of the test segments; RSS is that
of the whole training process. Learning curves: `language_model.png`.

```console
{commands}
```

Temporary memory of one compiled training step in MiB, at the same sizes. Depth is the number of
applications of `f`, or of forward and of backward iterations.

{memory}

Test perplexity of the same weights when more, or nothing, is remembered; training remembered 64
positions.

{remembering}

200 tokens drawn one by one, at a tolerance of 1e-3 by plain iteration:

{sampling}

From the unrolled DEQ, at temperature 1 (the prompt is `def `):

```text
{sample}
```
"""

if __name__ == "__main__":
    main()
