"""`python -m benchmarks.speed.peak LIBRARY TASK BATCH WIDTH`: peak memory before and after."""

import pathlib
import resource
import sys

from .functions import dense
from .libraries import load
from .results import threads
from .runs import Task

TASKS = (
    Task("fixed point"),
    Task("Anderson"),
    Task("Broyden"),
    Task("fixed point", "IFT: GMRES"),
    Task("Broyden", "IFT: Broyden"),
)
TOL = 1e-3


def peak() -> float:
    """The most resident memory of this program so far, in MiB.

    Linux keeps it by program; `getrusage` would start at what the parent process had.
    """
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        (line,) = (x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


def main(library_name: str, task_name: str, batch: str, width: str) -> None:
    (library,) = load([library_name], threads())
    (task,) = (task for task in TASKS if str(task) == task_name)
    function = dense("peak", int(batch), int(width))
    bare = library.bare(function)
    bare.evaluations(2)
    bare.products(2)
    before = peak()
    # |x| stands for |z*|: a stopping rule of its own need not be met to the digit here
    scale = library.scale((function.theta["x"],)) if library.scale else 1.0
    library.prepare(function, task, TOL).call(TOL * scale, TOL)
    print(before, peak())


if __name__ == "__main__":
    main(*sys.argv[1:])
