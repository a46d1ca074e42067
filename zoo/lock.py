"""One process at a time in the folder of a run."""

import contextlib
import errno
import os
import pathlib
import socket
import sys
import time
from collections.abc import Iterator

from zoo.errors import UserError
from zoo.folder import RunFolder

try:
    import fcntl
except ImportError:  # there is none on Windows
    fcntl = None

TAKEN = (errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN)
_held: set[pathlib.Path] = set()  # by this process, which may ask again


@contextlib.contextmanager
def locked(out: pathlib.Path) -> Iterator[None]:
    """While it is entered, no other process can enter it for this folder, which must be there.

    The operating system's lock, which ends with the process, however that ends. Over NFS it is the
    server's, and holds between machines. A file system that has no locks is told of, and trusted.

    Raises:
        UserError: another process is in it; the text says which.
    """
    path = out.resolve() / RunFolder(out).lock.name
    if path in _held or fcntl is None:
        yield
        return
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    number = os.open(path, flags, 0o666)  # not inherited by other programs
    try:
        _take(number, out)
        _held.add(path)
        os.ftruncate(number, 0)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        os.pwrite(
            number, f"process {os.getpid()} on {socket.gethostname()}, since {since}\n".encode(), 0
        )
        yield
    finally:
        _held.discard(path)
        os.close(number)  # the file stays: another process could be waiting to open it


def _take(number: int, out: pathlib.Path) -> None:
    assert fcntl is not None
    for take in (fcntl.flock, fcntl.lockf):  # some file systems have but the latter
        try:
            take(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as e:
            if e.errno in TAKEN:
                who = os.pread(number, 200, 0).decode(errors="replace").strip() or "another process"
                raise UserError(f"{out}: {who}, is training there; give another --out") from e
    print(
        f"{out}: this file system has no locks; nothing keeps another process out of the folder",
        file=sys.stderr,
    )
