"""`python -m zoo parity`."""

import pathlib
from collections.abc import Sequence

import jax

from zoo.commands.arguments import parser_of, task_of
from zoo.errors import UserError
from zoo.task import OriginalTask, Task
from zoo.upstream.reference import Reference
from zoo.upstream.rows import Row, table


def parity(argv: Sequence[str]) -> int:
    """Compares with a reference folder; status 0 only within the tolerances."""
    task = task_of(argv)
    parser = parser_of("parity", task)
    parser.add_argument("folder", type=pathlib.Path, metavar="DIR", help="reference folder")
    rows = compared(task, parser.parse_args(argv[1:]).folder)
    print(table(rows))
    failed = sum(not row.ok for row in rows)
    print(f"{failed} of {len(rows)} outside the tolerance" if failed else "all inside")
    return 1 if failed else 0


def compared(task: Task, folder: pathlib.Path) -> list[Row]:
    """Every quantity of a reference folder, computed in float64.

    The tolerances are those of float64, or of float32 if the reference was made in it.

    Raises:
        UserError: the model has no original; or the folder, or a file, field or array in it, is
            missing, unknown or cannot be read.
    """
    if not isinstance(task, OriginalTask):
        raise UserError(f"model {task.name!r} has no PyTorch original to compare with")
    with jax.enable_x64(True):
        return list(task.quantities(Reference.read(task.weights, folder)))
