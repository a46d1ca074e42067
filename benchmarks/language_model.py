"""`python -m benchmarks.language_model`: equilibrium and explicit transformers, side by side.

Trains the zoo's language model with equal sizes, parameters, numbers of tokens and seed, one
process each: as an explicit transformer, as a DEQ with the implicit gradient, and as a DEQ that is
unrolled. The two DEQs begin with the explicit transformer as it is after the first half of its
steps; for a fair comparison there is an explicit one that begins so too. A run that was finished,
or interrupted, is not made again, but read or resumed. Then come `language_model.md` and
`language_model.png`. With `--data` they are about the Penn Treebank in that folder, by words;
without, about the characters of Python's own sources.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from zoo.checkpoints.checkpoint import find_checkpoint
from zoo.checkpoints.saved import saved_run
from zoo.folder import RunFolder
from zoo.registry import get_task

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
    "--eval_mem_len 128 --schedule cosine --log_every 5 --save_every 500"
)
EXPLICIT = "explicit transformer"
IMPLICIT = "DEQ, implicit gradient"
UNROLLED = "DEQ, 6 steps unrolled"
RESTARTED = "explicit transformer, restarted"
HALVES = {  # what each model that begins half way adds to the command line
    RESTARTED: "--explicit",
    IMPLICIT: "--ift --f_solver anderson --f_max_iter 25 --f_tol 1e-2 --b_solver gmres "
    "--b_max_iter 12 --b_tol 1e-2 --jac_loss_weight 0.2 --jac_loss_freq 0.4",
    UNROLLED: "--f_max_iter 0 --grad 6",
}
FOLDERS = {
    EXPLICIT: "explicit",
    RESTARTED: "restarted",
    IMPLICIT: "implicit",
    UNROLLED: "unrolled",
}
FIRST = "first"  # folder of the first half of the explicit transformer


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


def commands(text: Text, steps: int, data: object, runs: object) -> dict[str, str]:
    """The options of `train lm` by output folder, in the order in which they are to be run."""
    half = steps // 2
    source = f" --data {data}" if data else ""
    shared = f"{text.options} {SHARED}{source} --steps"
    whole = f"{shared} {steps} --eval_every {steps // 6} --lr 2e-3 --warmup 100 --explicit"
    begun = f"--init {runs}/{FIRST} --lr 1e-3 --warmup 20"  # about the rate that it had then
    rest = f"{shared} {steps - half} --eval_every {half // 6} {begun}"
    lines = {FIRST: f"{whole} --stop_after {half}", FOLDERS[EXPLICIT]: whole}
    lines |= {FOLDERS[name]: f"{rest} {options}" for name, options in HALVES.items()}
    return {name: f"train lm {line} --out {runs}/{name}" for name, line in lines.items()}


def train(argv: Sequence[str], out: pathlib.Path) -> None:
    """Makes a run in a process of its own, for its own peak memory."""
    figures = out / "figures.json"
    if figures.exists():
        return
    resume = ["--resume"] if RunFolder(out).checkpoint_paths() else []
    argv = [sys.executable, "-m", "zoo", *argv, *resume]
    print(" ".join(argv[1:]), flush=True)
    process = subprocess.Popen(argv, env=os.environ | ONE_CORE)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"failed: {' '.join(argv)}")
    figures.write_text(json.dumps({"rss_mb": usage.ru_maxrss / 1024}))


def report(text: Text, runs: Mapping[str, Run], shown: Sequence[str]) -> str:
    """The page."""
    sample, _ = sampled(runs[IMPLICIT], text.prompt, warm=True, deq=tables.SAMPLING)
    return REPORT.format(
        text=text.name,
        unit=text.unit,
        quality=tables.quality(runs),
        solved=tables.solved(runs),
        commands="\n".join(f"$ {line}" for line in shown),
        memory=tables.memory(f"{text.options} {SHARED}", runs[IMPLICIT].folder),
        remembering=tables.remembering(runs),
        sampling=tables.sampling(runs, text.prompt),
        prompt=text.prompt,
        row=IMPLICIT,
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
    for name, line in commands(text, steps, args.data, args.runs).items():
        train(line.split(), args.runs / name)
    runs = {}
    for name, folder in FOLDERS.items():
        checkpoint = find_checkpoint(args.runs / folder)
        config = saved_run(get_task("lm"), checkpoint)
        before = 0 if name == EXPLICIT else steps // 2
        runs[name] = Run(config, checkpoint, args.runs / folder, args.data, before)
    shown = commands(text, steps, args.data and "DIR", "runs").values()
    page = report(text, runs, [f"python -m zoo {line}" for line in shown])
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "language_model.md").write_text(page)
    tables.plot(args.out / "language_model.png", runs, text.unit)
    print(page)


REPORT = """\
# Equilibrium and explicit language models

Small transformers on {text}, each trained on one core with equal parameters, numbers of {unit}s and
seed: what minutes of a CPU allow, far from what such models reach. Perplexity is per {unit}. The
explicit transformer applies its block once. The other rows begin as it is after half of its steps,
with fresh moments and a schedule of their own from about the rate that it has there, and take as
many steps again as it has left: the restarted one is what the DEQs are to be compared with.
{machine}.

{quality}

Seconds are CPU time of one core, medians; RSS is that of the whole training process; NFE are
evaluations of `f` for a batch of test segments; the residual is `|f(z) - z| / |f(z)|` of the test
states as each model was trained to make them. Learning curves: `language_model.png`.

The same weights when every state is solved for by Anderson's method to a relative residual of 1e-3,
those of the explicit transformer too:

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

200 {unit}s drawn one by one, at a tolerance of 1e-3 by plain iteration:

{sampling}

From the row "{row}", at temperature 1, after `{prompt}`:

```text
{sample}
```
"""

if __name__ == "__main__":
    main()
