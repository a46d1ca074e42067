"""What a run says of itself before it begins."""

import pathlib
from typing import Any

import jax

from zoo.data.split import Data
from zoo.figures import unrolled_text
from zoo.run import RunConfig
from zoo.task import Task


def header(
    task: Task,
    config: RunConfig,
    data: Data,
    params: Any,
    mesh: jax.sharding.Mesh,
    out: pathlib.Path,
) -> list[str]:
    """Lines for people: model and parameters, preset, solver, data, devices, folder."""
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    said = {
        "model": f"{task.name} ({task.summary}), {count:,} trained parameters",
        "preset": f"{config.preset}, {config.train.steps} steps of {config.train.rows} rows",
        "solver": _solver(task, config),
        "data": _data(config.data, data),
        "devices": _devices(mesh),
        "folder": str(out),
    }
    return [f"{name:8} {text}" for name, text in said.items()]


def _solver(task: Task, config: RunConfig) -> str:
    steps, deq = task.unrolled(config.model, config.deq), config.deq
    if steps is not None:
        return unrolled_text(steps)
    mode, tol = deq.criterion
    return f"{deq.f_solver}, at most {deq.f_max_iter} iterations, tolerance {tol:g} ({mode})"


def _data(source: str, data: Data) -> str:
    """The number of samples, too, where a split has one."""
    sizes = {name: getattr(data, name) for name in ("train", "valid", "test")}
    known = [f"{len(s):,} for {name}" for name, s in sizes.items() if hasattr(s, "__len__")]
    return ", ".join([source, *known])


def _devices(mesh: jax.sharding.Mesh) -> str:
    devices = mesh.devices
    axes = " ".join(f"{name}={n}" for name, n in mesh.shape.items() if n > 1)
    processes = f", {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return f"{devices.size} x {devices.flat[0].device_kind}{f', {axes}' if axes else ''}{processes}"
