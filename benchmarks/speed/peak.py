"""`python -m benchmarks.speed.peak LIBRARY TASK BATCH WIDTH`: peak memory before and after."""

import resource
import sys

from .functions import dense
from .libraries import load
from .results import threads
from .runs import Task

TASKS = [Task("Anderson"), Task("Broyden"), Task("fixed point", "IFT: GMRES"),
         Task("Broyden", "IFT: Broyden")]  # fmt: skip
TOL = 1e-3


def peak() -> float:
    """Of this process so far, in MiB."""
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
    scale = library.scale(function.z0) if library.scale else 1.0
    library.prepare(function, task, TOL).call(TOL * (scale or 1.0), TOL)
    print(before, peak())


if __name__ == "__main__":
    main(*sys.argv[1:])
