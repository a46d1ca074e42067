"""What a folder must contain, byte for byte: a list of its files that is written last."""

import hashlib
import json
import os
import pathlib
from collections.abc import Collection
from typing import Any

NAME = "manifest.json"


class Damaged(Exception):
    """A folder does not hold what was written to it; the text names the file."""


def write_manifest(folder: pathlib.Path, facts: Any, *, leave_out: Collection[str] = ()) -> None:
    """Lists the size and SHA-256 of every file below `folder`, all of them on the disk by then.

    Args:
        folder: nothing may be written to it any more.
        facts: plain values for JSON that belong to the files.
        leave_out: names of files that may change.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in leave_out:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                os.fsync(file.fileno())  # after a power cut too, listed files are there
            files[path.relative_to(folder).as_posix()] = [path.stat().st_size, digest]
    content = json.loads(json.dumps({"facts": facts, "files": files}))  # as it will be read
    temporary = folder / f"{NAME}.tmp"
    with temporary.open("w") as file:
        json.dump(content | {"sha256": _digest(content)}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / NAME)


def read_facts(folder: pathlib.Path) -> Any:
    """What was written as `facts`, without a look at the files; raises `Damaged`."""
    return _read(folder)["facts"]


def verified_facts(folder: pathlib.Path) -> Any:
    """The same after every file was read and found to be what was written.

    Raises:
        Damaged: the manifest or a file is missing, or has another size or content.
    """
    content = _read(folder)
    for name, (size, digest) in content["files"].items():
        path = folder / name
        try:
            with path.open("rb") as file:
                found = os.fstat(file.fileno()).st_size
                if found != size:
                    raise Damaged(f"{name}: {found} bytes, expected {size}")
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    raise Damaged(f"{name}: the content is not what was written")
        except OSError as e:
            raise Damaged(f"{name}: {e.strerror}") from e
    return content["facts"]


def _read(folder: pathlib.Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / NAME).read_bytes())
        digest = content.pop("sha256")
    except OSError as e:
        raise Damaged(f"{NAME}: {e.strerror}") from e
    except (ValueError, KeyError, AttributeError, TypeError) as e:
        raise Damaged(f"{NAME}: is not what was written") from e
    if digest != _digest(content):
        raise Damaged(f"{NAME}: the content is not what was written")
    return content


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
