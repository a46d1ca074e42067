"""Checks a data folder against the list of checksums that came with it."""

import hashlib
import pathlib
import re

from zoo.errors import UserError
from zoo.files import opened_below, read_bytes

LIST = "SHA256SUMS"


def verify_checksums(folder: pathlib.Path) -> None:
    """Reads every file that the folder's `SHA256SUMS`, as `sha256sum` writes it, lists.

    Without such a list there is nothing to be checked.

    Raises:
        UserError: a file is missing, no plain file below the folder, or has another checksum; or
            the list cannot be understood.
    """
    path = folder / LIST
    if not path.exists():
        return
    try:
        lines = read_bytes(path).decode().splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{path}: cannot be read ({e})") from e
    for number, line in enumerate(lines, start=1):
        match = re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line)
        if match is None:
            raise UserError(f"{path}, line {number}: expected a SHA-256 and the name of a file")
        expected, name = match.groups()
        try:
            with opened_below(folder, name) as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as e:
            raise UserError(f"{folder / name}: is listed in {LIST}, but: {e.strerror}") from e
        if found != expected:
            raise UserError(
                f"{folder / name}: its SHA-256 is {found}, expected {expected} ({LIST})"
            )
