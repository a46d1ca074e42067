"""`python -m zoo parity`."""

import pathlib
from collections.abc import Sequence

from zoo.commands.arguments import parser_of, task_of
from zoo.upstream.rows import table


def parity(argv: Sequence[str]) -> int:
    """compare with a reference folder; status 0 only within the tolerances"""
    task = task_of("parity", argv)
    parser = parser_of("parity", task)
    parser.add_argument("folder", type=pathlib.Path, metavar="DIR", help="reference folder")
    rows = task.parity(parser.parse_args(argv[1:]))
    print(table(rows))
    failed = sum(not row.ok for row in rows)
    print(f"{failed} of {len(rows)} outside the tolerance" if failed else "all inside")
    return 1 if failed else 0
