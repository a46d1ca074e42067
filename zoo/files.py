"""Files that somebody else may have made: plain ones are read, none is written through a link."""

import contextlib
import errno
import io
import os
import pathlib
import secrets
import stat
from collections.abc import Iterator
from typing import TextIO


@contextlib.contextmanager
def opened(path: pathlib.Path) -> Iterator[io.BufferedReader]:
    """A plain file to be read: no device or pipe, which might never end, or never begin.

    Raises:
        OSError: it cannot be opened, or is no plain file.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would be waited for
    except ValueError as e:  # a NUL
        raise OSError(errno.EINVAL, "no name of a file", str(path)) from e
    with os.fdopen(number, "rb") as file:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, "not a plain file", str(path))
        yield file


@contextlib.contextmanager
def opened_below(folder: pathlib.Path, name: str) -> Iterator[io.BufferedReader]:
    """The plain file that a list in `folder` names, which must lie below it.

    Raises:
        OSError: it cannot be opened, is no plain file, or is elsewhere: by its name or by a link.
    """
    if pathlib.PurePath(name).is_absolute() or ".." in pathlib.PurePath(name).parts:
        raise OSError(errno.EPERM, "not below the folder", name)
    with opened(folder / name) as file:
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise OSError(errno.EPERM, "not below the folder", name)
        yield file


def read_bytes(path: pathlib.Path) -> bytes:
    """The content of a plain file; raises as `opened`."""
    with opened(path) as file:
        return file.read()


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[TextIO]:
    """A text file that gets the name `path` once it is complete and on the disk, or never.

    Until then it has a name that nobody can foresee, and it is new: a link that is in its place
    is not followed.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    try:
        with os.fdopen(os.open(temporary, flags, 0o666), "w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
