"""`python -m benchmarks.language_model`: equilibrium and explicit transformers, side by side.

Trains the zoo's language model three times with equal sizes, parameters, batches and seed, one
process each: as an explicit transformer, as a DEQ with the implicit gradient, and as a DEQ that is
unrolled. A run that was finished, or interrupted, is not made again, but read or resumed. Then
come `language_model.md` and `language_model.png`. With `--data` they are about the Penn Treebank
in that folder, by words; without, about the characters of Python's own sources.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from zoo.checkpoint import find_checkpoint
from zoo.registry import get_task
from zoo.saved import saved_run

from . import lm_tables as tables
from .lm_measures import Run, machine, sampled

# all computations on one core; a fifth of the time goes to page faults where freed memory is
# given back after every step
ONE_CORE = {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
    "MALLOC_TOP_PAD_": "268435456",
    "MALLOC_ARENA_MAX": "1",
}
SHARED = (  # the design that has an isolated equilibrium, for all of them
    "--design deq_seq --no-pre_norm --fan_in --n_head 4 --dropout 0 --mem_len 128 "
    "--eval_mem_len 128 --lr 2e-3 --schedule cosine --warmup 100 --log_every 5 --save_every 500"
)
IMPLICIT = (
    "--ift --f_solver anderson --f_max_iter 20 --f_tol 1e-2 "
    "--b_solver gmres --b_max_iter 12 --b_tol 1e-2"
)
ROWS = {  # what each one adds to the command line
    "explicit transformer": "--explicit",
    "DEQ, implicit gradient": IMPLICIT,
    "DEQ, 8 steps unrolled": "--f_max_iter 0 --grad 8",
}
SAMPLED = "DEQ, implicit gradient"


class Text(NamedTuple):
    """What the models read: its name, options of the command line, steps, and how to sample."""

    name: str
    options: str
    steps: int
    prompt: str
    unit: str


WORDS = Text(
    "the Penn Treebank by words",
    "--preset ptb-small --d_model 128 --d_embed 128 --d_inner 512 --div_val 2 --tgt_len 32 "
    "--batch_size 16",
    3000,
    "the company said",
    "word",
)
CHARACTERS = Text(
    "Python's own sources by characters",
    "--preset quick --d_model 96 --d_embed 96 --d_inner 384 --batch_size 8",
    1200,
    "def ",
    "character",
)


def command(text: Text, options: str, steps: int, data: object, out: object) -> list[str]:
    """The training command of a row."""
    argv = f"train lm {text.options} {SHARED} {options} --steps {steps} --eval_every {steps // 6}"
    return [*argv.split(), *(["--data", str(data)] if data else []), "--out", str(out)]


def train(argv: Sequence[str], out: pathlib.Path) -> None:
    """Makes a run in a process of its own, for its own peak memory."""
    figures = out / "figures.json"
    if figures.exists():
        return
    resume = ["--resume"] if (out / "checkpoints").exists() else []
    argv = [sys.executable, "-m", "zoo", *argv, *resume]
    print(" ".join(argv[1:]), flush=True)
    process = subprocess.Popen(argv, env=os.environ | ONE_CORE)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"failed: {' '.join(argv)}")
    figures.write_text(json.dumps({"rss_mb": usage.ru_maxrss / 1024}))


def report(text: Text, runs: Mapping[str, Run], commands: Sequence[str]) -> str:
    """The page."""
    sample, _ = sampled(runs[SAMPLED], text.prompt, warm=True, deq=tables.SAMPLING)
    return REPORT.format(
        text=text.name,
        unit=text.unit,
        quality=tables.quality(runs),
        solved=tables.solved(runs),
        commands="\n".join(f"$ {line}" for line in commands),
        memory=tables.memory(f"{text.options} {SHARED}", runs[SAMPLED].folder),
        remembering=tables.remembering(runs),
        sampling=tables.sampling(runs, text.prompt),
        prompt=text.prompt,
        row=SAMPLED,
        sample=sample,
        machine=machine(),
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=pathlib.Path, help="folder of the Penn Treebank")
    parser.add_argument("--steps", type=int, help="of each run (1200; 3000 with --data)")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/language_model"))
    results = pathlib.Path(__file__).parent / "results"
    parser.add_argument("--out", type=pathlib.Path, default=results)
    args = parser.parse_args(argv)
    os.environ |= ONE_CORE  # before the first computation of this process
    text = WORDS if args.data else CHARACTERS
    steps = args.steps or text.steps
    outs = {name: args.runs / str(i) for i, name in enumerate(ROWS)}
    for name, out in outs.items():
        train(command(text, ROWS[name], steps, args.data, out), out)
    task = get_task("lm")
    saved = {name: find_checkpoint(out) for name, out in outs.items()}
    runs = {
        name: Run(saved_run(task, saved[name]), saved[name], outs[name], args.data) for name in outs
    }
    shown = [
        " ".join(["python -m zoo", *command(text, row, steps, args.data and "DIR", f"runs/{i}")])
        for i, row in enumerate(ROWS.values())
    ]
    page = report(text, runs, shown)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "language_model.md").write_text(page)
    tables.plot(args.out / "language_model.png", runs, text.unit)
    print(page)


REPORT = """\
# Equilibrium and explicit language models

Small transformers on {text}, each trained on one core with equal parameters, batches, learning
rates and seed: what minutes of a CPU allow, far from what such models reach. Perplexity is per
{unit}. {machine}.

{quality}

Seconds are CPU time of one core, medians; RSS is that of the whole training process; NFE are
evaluations of `f` for a batch of test segments; the residual is `|f(z) - z| / |f(z)|` of the test
states as the model was trained to make them. The explicit transformer is the same block, applied
once. Learning curves: `language_model.png`.

The DEQs when every state is solved for by Anderson's method to a relative residual of 1e-3:

{solved}

```console
{commands}
```

Temporary memory of one compiled training step in MiB, at the same sizes. Depth is the number of
applications of `f`, or of forward and of backward iterations.

{memory}

Test perplexity of the same weights when more, or nothing, is remembered; training remembered 128
positions.

{remembering}

200 tokens drawn one by one, at a tolerance of 1e-3 by plain iteration:

{sampling}

From the row "{row}", at temperature 1, after `{prompt}`:

```text
{sample}
```
"""

if __name__ == "__main__":
    main()
