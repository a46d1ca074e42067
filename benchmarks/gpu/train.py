"""The small MDEQ on CIFAR-10, for as long as there is time."""

import time

import jax
import numpy as np

from .context import Context, Jobs, Row, Skip
from .zoo_runs import check_packages, load, trainer

NOTES = """`cifar-small` in float32 with its own settings, the rate's cosine as long as the steps
that fit into the time; then the whole test set."""

BATCH = 128
KEEP_BACK = 0.25  # share of the time for the test set and for steps that take longer
CURVE = 20  # points of the loss that are told


def jobs(context: Context) -> Jobs:
    check_packages()
    if context.data is None and not context.quick:
        raise Skip("no --data DIR with CIFAR-10")
    yield "cifar-small", lambda: rows(context)


def step_seconds(context: Context) -> float:
    """As the section `zoo` found it; else a guess."""
    name = f"mdeq cifar-small, batch {BATCH}, float32"
    known = [row["ms"] for row in context.found.get("zoo", ()) if row["model"] == name]
    return 1e-3 * known[-1] if known else 0.05


def rows(context: Context) -> list[Row]:
    start = time.perf_counter()
    preset = "quick" if context.quick else "cifar-small"
    data = load("mdeq", preset, None if context.quick else context.data)
    loading = time.perf_counter() - start
    left = context.seconds_left()
    most = 5 if context.quick else max(10, int((1 - KEEP_BACK) * left / step_seconds(context)))
    run = trainer("mdeq", preset, data, steps=most)
    config = run.config.train
    batches = data.train.train_batches(config.rows, seed=0, start=0, stop=most)
    start = time.perf_counter()
    run.update(next(batches))
    jax.block_until_ready(run.state)
    compiling = time.perf_counter() - start
    # the evaluation compiles too
    until = time.perf_counter() + max(5.0, context.seconds_left() * (1 - KEEP_BACK) - compiling)
    start, losses = time.perf_counter(), []
    for batch in batches:
        losses.append(run.update(batch)["loss"])
        if len(losses) % 20 == 0:
            jax.block_until_ready(losses[-1])
            if time.perf_counter() > until:
                break
    jax.block_until_ready(run.state)
    seconds = time.perf_counter() - start
    values = np.array(jax.device_get(losses))
    evaluation = run.evaluate()
    groups = np.array_split(values, min(CURVE, len(values)))
    return [
        {
            "model": f"mdeq {preset}",
            "steps": run.step,
            "of": most,
            "epochs": run.step * config.rows / len(data.train),
            "steps/s": len(values) / seconds,
            "training s": seconds,
            "loading s": loading,
            "first step s": compiling,
            "loss at the end": float(groups[-1].mean()),
            "test": evaluation.line("test", run.task.figures),
            "losses": [round(float(group.mean()), 4) for group in groups],
        }
    ]
