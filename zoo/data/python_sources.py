"""The text that every machine has: the source files of Python's standard library."""

import pathlib
import string
import sys
import sysconfig
import zlib

from zoo.data.vocabulary import UNKNOWN, Characters
from zoo.errors import UserError

HELD_OUT = 200_000  # keeps an evaluation quick

# fixed, so that a model's size does not depend on the machine
CHARACTERS = Characters(
    [UNKNOWN, "\n", *sorted(set(string.printable) - set(string.whitespace)), " "]
)


def python_sources() -> dict[str, str]:
    """Training, validation and test text: some 4 MB, and at most `HELD_OUT` characters each.

    These are the modules that are single files, without what belongs to the machine. Whole files
    are held out, one in twenty for validation and one for the test; a hash of the name decides,
    so that a module which another Python lacks does not move the others.

    Raises:
        UserError: this Python comes without source files.
    """
    folder = pathlib.Path(sysconfig.get_path("stdlib"))
    paths = [path for path in sorted(folder.glob("*.py")) if path.stem in sys.stdlib_module_names]
    texts = {"train": "", "valid": "", "test": ""}
    for path in paths:
        split = {0: "valid", 1: "test"}.get(zlib.crc32(path.name.encode()) % 20, "train")
        texts[split] += path.read_text("utf-8", errors="replace")
    if not all(texts.values()):
        raise UserError(f"{folder}: this Python has no sources of its standard library")
    return {s: text if s == "train" else text[:HELD_OUT] for s, text in texts.items()}
