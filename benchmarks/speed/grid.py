"""The grid: every `f`, solver, tolerance and gradient, in every library that has it."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from .context import Context
from .function import Function
from .functions import FUNCTIONS, QUICK
from .runs import BROYDEN_MEMORY, Bare, Library, Run, Task
from .timing import Effort, interleave, seconds_of
from .verify import GRADIENT_FACTOR, WrongSolution, check, check_residual, loosest, reference

TOLS = (1e-3, 1e-5)
FORWARD = [
    Task(name)
    for name in ("fixed point", "Anderson", "Broyden", f"Broyden, memory {BROYDEN_MEMORY}")
]
IMPLICIT = [
    Task("fixed point", "IFT: fixed point"),
    Task("Anderson", "IFT: Anderson"),
    Task("Broyden", "IFT: Broyden"),
    Task("fixed point", "IFT: GMRES"),
    Task("Anderson", "IFT: GMRES"),
    Task("fixed point", "IFT: default"),
    Task("Anderson", "IFT: default"),
]
# their backward passes do not depend on the tolerance
APPROXIMATE = [Task("Anderson", "phantom"), Task("fixed point", "JFB"), Task("Broyden", "SHINE")]
# rungs that tolerances of peers are searched on, relative to ours, the loosest first
FORWARD_LADDER = 8 * 0.5 ** np.arange(14)
BACKWARD = 8 * 0.25 ** np.arange(5)
BARE_SECONDS = 0.05  # bare loops stop at this, and are scaled
Row = dict[str, Any]


def tasks(tols: Sequence[float]) -> Iterator[tuple[Task, float]]:
    """The rows of one function."""
    for tol in tols:
        yield from ((task, tol) for task in FORWARD + IMPLICIT)
    yield from ((task, tols[0]) for task in APPROXIMATE)


def row_name(function_name: str, task: Task, tol: float) -> str:
    return f"{function_name} | {task} | {tol:.0e}"


def rows(context: Context) -> Iterator[tuple[str, Row]]:
    """Measures what is wanted, function by function."""
    functions, tols = (QUICK, TOLS[:1]) if context.quick else (FUNCTIONS, TOLS)
    for name, make in functions.items():
        todo = [pair for pair in tasks(tols) if context.wanted(row_name(name, *pair))]
        if not todo:
            continue
        function = make(name)
        bares = {lib.name: BareTimes(lib.bare(function)) for lib in context.libraries}
        for task, tol in todo:
            row = measure(function, task, tol, context.libraries, bares, context.effort)
            yield row_name(name, task, tol), row
        reference.cache_clear()  # it holds arrays as large as the weights
        forward_tol.cache_clear()


class BareTimes:
    """How many bare evaluations and products a loop may make to stay short."""

    def __init__(self, bare: Bare):
        self.bare = bare
        self.most: dict[str, int] = {}

    def loop(self, kind: str, wanted: int) -> tuple[Callable[[], object], int]:
        """A call that makes up to `wanted` of them, and how many it makes."""
        make = getattr(self.bare, kind)
        if kind not in self.most:
            make(1)
            self.most[kind] = max(1, int(BARE_SECONDS / seconds_of(lambda: make(1))))
        n = max(1, min(wanted, self.most[kind]))
        return lambda: make(n), n


class Prepared(NamedTuple):
    """A verified run with its tolerances, and what is known before it is timed."""

    run: Run
    tols: tuple[float, float]
    entry: dict[str, Any]


def prepared(
    function: Function, task: Task, tol: float, gradient_goal: float | None, library: Library
) -> Prepared | str:
    """The verified run; or why there is none."""
    try:
        run = library.prepare(function, task, tol)
        candidates = [(tol, tol)]
        if library.scale is not None:
            forward = forward_tol(function, task.solver, tol, library)
            candidates = [(forward, tol)]
            if gradient_goal is not None:  # which may want a better solution than the residual
                pairs = itertools.product((forward, forward / 4), BACKWARD)
                candidates = [(a, tol * float(b)) for a, b in pairs]
        verify = lambda outcome: check(function, outcome, tol, gradient_goal)
        tols, outcome = loosest(candidates, run, verify)
        entry: dict[str, Any] = {"nfe": outcome.nfe, "tols": tols, **verify(outcome)}
    except WrongSolution as error:
        return str(error)
    entry["evaluations"], entry["products"] = outcome.nfe, 0
    if task.backward is not None:
        entry["evaluations"], entry["products"] = run.count(*tols)
    return Prepared(run, tols, entry)


@functools.lru_cache
def forward_tol(function: Function, solver: str, tol: float, library: Library) -> float:
    """The loosest tolerance of a library with a rule of its own that reaches our `tol`."""
    assert library.scale is not None
    scale = library.scale(reference(function).z)
    run = library.prepare(function, Task(solver), tol)
    candidates = ((scale * tol * float(rung), tol) for rung in FORWARD_LADDER)
    (found, _), _ = loosest(candidates, run, lambda x: check_residual(function, x, tol))
    return found


def prepare_all(
    function: Function, task: Task, tol: float, libraries: Iterable[Library]
) -> dict[str, Prepared | str]:
    """Every library's run; gradients of peers need not be better than jdeq's where both may choose.

    Libraries with our stopping rule come first: what the others are to reach is known then.
    """
    able = [library for library in libraries if library.supports(task)]
    exact = task.backward is not None and task.backward.startswith("IFT")
    goal = GRADIENT_FACTOR * tol if exact else None
    found: dict[str, Prepared | str] = {}
    for group in (
        [library for library in able if library.scale is None],
        [library for library in able if library.scale is not None],
    ):
        make = functools.partial(prepared, function, task, tol, goal)
        with ThreadPoolExecutor() as pool:  # XLA compiles outside of the interpreter's lock
            found |= zip((lib.name for lib in group), pool.map(make, group), strict=True)
        ours = found.get("jdeq")
        if exact and isinstance(ours, Prepared):
            goal = max(tol, ours.entry["gradient_error"])
    return found


def measure(
    function: Function,
    task: Task,
    tol: float,
    libraries: Iterable[Library],
    bares: dict[str, BareTimes],
    effort: Effort,
) -> Row:
    """One row: each library's solve is verified, then all of them are timed in turns."""
    calls: dict[str, Callable[[], object]] = {}
    loops: dict[str, int] = {}
    entries: dict[str, dict[str, Any]] = {}
    for name, result in prepare_all(function, task, tol, libraries).items():
        if isinstance(result, str):
            entries[name] = {"failure": result}
            continue
        run, tols, entry = result
        entries[name] = entry
        calls[f"{name} total"] = lambda run=run, tols=tols: run.call(*tols)
        for kind in ("evaluations", "products") if entry["products"] else ("evaluations",):
            calls[f"{name} {kind}"], loops[f"{name} {kind}"] = bares[name].loop(kind, entry[kind])
    seconds = interleave(calls, effort) if calls else {}
    for name, entry in entries.items():
        if "failure" not in entry:
            entry |= figures(name, entry, seconds, loops)
    about = {"function": function.name, "solver": task.solver, "backward": task.backward}
    return {**about, "tol": tol, "libraries": entries}


def figures(
    name: str, entry: dict[str, Any], seconds: dict[str, float], loops: dict[str, int]
) -> dict[str, float]:
    """Milliseconds: the solve, as many bare evaluations and products, and what is left."""
    total = seconds[f"{name} total"]
    each = seconds[f"{name} evaluations"] / loops[f"{name} evaluations"]
    bare = each * entry["evaluations"]
    if entry["products"]:
        n = loops[f"{name} products"]
        product = max(0.0, seconds[f"{name} products"] - each) / n  # without the evaluation
        bare += product * entry["products"]
    return {
        "f_ms": 1e3 * each,
        "total_ms": 1e3 * total,
        "bare_ms": 1e3 * bare,
        "overhead": total / bare,
        "own_ms": 1e3 * (total - bare),
    }
