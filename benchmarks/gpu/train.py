"""The small MDEQ on CIFAR-10, for as long as there is time."""

import dataclasses
import importlib.util
import time
from typing import Any

import jax
import numpy as np

from .context import Context, Jobs, Row, Skip

NOTES = """`cifar-small` in float32 with its own settings, the rate's cosine as long as the steps
that fit into the time; then the whole test set."""

BATCH = 128
KEEP_BACK = 0.25  # share of the time for the test set and for steps that take longer
CURVE = 20  # points of the loss that are told


def jobs(context: Context) -> Jobs:
    if importlib.util.find_spec("grain") is None:
        raise Skip("grain is not installed")
    if context.data is None and not context.quick:
        raise Skip("no --data DIR with CIFAR-10")
    yield "cifar-small", lambda: rows(context)


def step_seconds(context: Context) -> float:
    """As the section `zoo` found it; else a guess."""
    name = f"mdeq cifar-small, batch {BATCH}, float32"
    known = [row["ms"] for row in context.found.get("zoo", ()) if row["model"] == name]
    return 1e-3 * known[-1] if known else 0.05


def trainer_for(context: Context, data: Any, steps: int) -> Any:
    from zoo.registry import get_task
    from zoo.run import RunConfig
    from zoo.training.trainer import Trainer

    task = get_task("mdeq")
    preset = "quick" if context.quick else "cifar-small"
    chosen = task.presets[preset]
    train = dataclasses.replace(chosen.train, steps=steps)
    model = dataclasses.replace(chosen.model, **data.sizes)
    config = RunConfig(task.name, preset, chosen.data, 0, model, chosen.deq, train)
    return Trainer(task, config, data)


def load(context: Context) -> Any:
    from zoo.registry import get_task

    task = get_task("mdeq")
    preset = task.presets["quick" if context.quick else "cifar-small"]
    folder = None if context.quick else context.data
    return task.load_data(preset.data, folder, model=preset.model, meta={})


def rows(context: Context) -> list[Row]:
    start = time.perf_counter()
    data = load(context)
    loading = time.perf_counter() - start
    left = context.seconds_left()
    most = 5 if context.quick else max(10, int((1 - KEEP_BACK) * left / step_seconds(context)))
    trainer = trainer_for(context, data, most)
    config = trainer.config.train
    batches = data.train.train_batches(config.rows, seed=0, start=0, stop=most)
    start = time.perf_counter()
    trainer.update(next(batches))
    jax.block_until_ready(trainer.state)
    compiling = time.perf_counter() - start
    # the evaluation compiles too
    until = time.perf_counter() + max(5.0, context.seconds_left() * (1 - KEEP_BACK) - compiling)
    start, losses = time.perf_counter(), []
    for batch in batches:
        losses.append(trainer.update(batch)["loss"])
        if len(losses) % 20 == 0:
            jax.block_until_ready(losses[-1])
            if time.perf_counter() > until:
                break
    jax.block_until_ready(trainer.state)
    seconds = time.perf_counter() - start
    values = np.array(jax.device_get(losses))
    evaluation = trainer.evaluate()
    groups = np.array_split(values, min(CURVE, len(values)))
    return [
        {
            "model": f"mdeq {trainer.config.preset}",
            "steps": trainer.step,
            "of": most,
            "epochs": trainer.step * config.rows / len(data.train),
            "steps/s": len(values) / seconds,
            "training s": seconds,
            "loading s": loading,
            "first step s": compiling,
            "loss at the end": float(groups[-1].mean()),
            "test accuracy": evaluation.metric,
            "test": evaluation.line("test", trainer.task.metric),
            "losses": [round(float(group.mean()), 4) for group in groups],
        }
    ]
