"""The same solves by jdeq and by TorchDEQ, to the same residual."""

import functools
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import jax

from benchmarks.speed.by_jdeq import Jdeq
from benchmarks.speed.function import Function
from benchmarks.speed.grid import BareTimes, measure
from benchmarks.speed.runs import Library, Task

from .cases import Case, cases
from .context import Context, Jobs, Row, Skip

NOTES = """Every solve and gradient is verified (NumPy in float64; plain iteration) before it is
timed; `own` is what is left without as many bare evaluations and products in the same library.
`x` is the peer's time over jdeq's, which takes turns with TorchDEQ's two ways and is told once.
float32 is computed as float32 (precision "highest", TF32 off) in both."""

# the tolerance that each dtype can reach
TOLS = {"float32": 1e-3, "bfloat16": 5e-2}
FORWARD = (Task("fixed point"), Task("Anderson"), Task("Broyden"))
GRADIENTS = (Task("fixed point", "IFT: default"), Task("Broyden", "IFT: Broyden"))


def jobs(context: Context) -> Jobs:
    for name in ("torch", "torchdeq"):
        if importlib.util.find_spec(name) is None:
            raise Skip(f"{name} is not installed")
    import torch

    from .by_torch import TorchDEQ

    jax.config.update("jax_default_matmul_precision", "highest")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    # compiling takes as long as all the rest, so it comes last
    for compiles in (False,) if context.quick else (False, True):
        libraries: list[Any] = [Jdeq(), TorchDEQ(context.device, compiles=compiles)]
        told = [library.name for library in libraries[1 if compiles else 0 :]]
        for case in sorted(cases(quick=context.quick), key=lambda case: case.dtype != "float32"):
            # gradients of so few digits have no reference
            tasks = FORWARD + (GRADIENTS if case.dtype == "float32" else ())
            drawn = functools.cache(functools.partial(draw, case, libraries))
            for task in tasks[-1:] if context.quick else tasks:
                job = functools.partial(rows, case, task, libraries, drawn, context, told)
                yield f"{case} | {task}{' | f compiled' if compiles else ''}", job


def draw(case: Case, libraries: Sequence[Library]) -> tuple[Function, dict[str, BareTimes]]:
    """The function, and bare loops of it; once for all of its tasks."""
    function = case.function()
    return function, {library.name: BareTimes(library.bare(function)) for library in libraries}


def rows(
    case: Case,
    task: Task,
    libraries: Sequence[Library],
    drawn: Callable[[], tuple[Function, dict[str, BareTimes]]],
    context: Context,
    told: Sequence[str],
) -> list[Row]:
    """A row for each of the libraries that are `told`."""
    function, bares = drawn()
    row = measure(function, task, TOLS[case.dtype], libraries, bares, context.effort)
    return flat(str(case), str(task), row["libraries"], told=told)


def flat(
    case: str, task: str, libraries: dict[str, dict[str, Any]], told: Sequence[str]
) -> list[Row]:
    ours = libraries["jdeq"].get("total_ms")
    rows = []
    for name, entry in libraries.items():
        if name not in told:
            continue
        row: Row = {"function": case, "task": task, "library": name}
        if "failure" in entry:
            row["total ms"] = entry["failure"]
        else:
            names = ("residual", "gradient_error", "evaluations", "products")
            row |= {key: entry.get(key) for key in names}
            row |= {"total ms": entry["total_ms"], "own ms": entry["own_ms"]}
            row["x"] = entry["total_ms"] / ours if ours else None
        rows.append(row)
    return rows
