"""What a folder must contain, byte for byte: a list of its files that is written last."""

import hashlib
import json
import os
import pathlib
from collections.abc import Collection
from typing import Any

from zoo.files import opened, opened_below, replacing
from zoo.plain_json import read_json

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
            with opened(path) as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                os.fsync(file.fileno())  # after a power cut too, listed files are there
            files[path.relative_to(folder).as_posix()] = [path.stat().st_size, digest]
    content = json.loads(json.dumps({"facts": facts, "files": files}))  # as it will be read
    with replacing(folder / NAME) as file:
        json.dump(content | {"sha256": _digest(content)}, file)


def read_facts(folder: pathlib.Path) -> Any:
    """What was written as `facts`, without a look at the files; raises `Damaged`."""
    return _read(folder)["facts"]


def verified_facts(folder: pathlib.Path) -> Any:
    """The same after every file was read and found to be what was written.

    Raises:
        Damaged: the manifest or a file is missing, or has another size or content; or there is
            something else than plain files below the folder.
    """
    content = _read(folder)
    for path in folder.rglob("*"):  # Orbax reads what it finds, listed or not
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise Damaged(f"{path.relative_to(folder).as_posix()}: not a plain file")
    for name, (size, digest) in content["files"].items():
        try:
            with opened_below(folder, name) as file:
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
        content = read_json(folder / NAME)
        digest = content.pop("sha256")
    except OSError as e:
        raise Damaged(f"{NAME}: {e.strerror}") from e
    except (ValueError, KeyError, AttributeError, TypeError) as e:
        raise Damaged(f"{NAME}: is not what was written") from e
    if digest != _digest(content):
        raise Damaged(f"{NAME}: the content is not what was written")
    files = content.get("files")
    if (
        "facts" not in content
        or not isinstance(files, dict)
        or not all(map(_is_entry, files.values()))
    ):
        raise Damaged(f"{NAME}: is no list of files")
    return content


def _is_entry(entry: Any) -> bool:
    """Whether this is a file's size and SHA-256."""
    return isinstance(entry, list) and list(map(type, entry)) == [int, str]


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
