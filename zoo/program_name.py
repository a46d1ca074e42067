"""How the command line was called."""

import pathlib
import sys


def program_name() -> str:
    """For usage and messages: `jdeq-zoo` if it was that script, else `python -m zoo`."""
    script = pathlib.Path(sys.argv[0] if sys.argv else "").stem
    return script if script == "jdeq-zoo" else "python -m zoo"
