"""Named arrays in files, read without ever running code that is stored in one."""

import math
import os
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from zoo.errors import UserError
from zoo.files import opened, read_bytes

NUMBERS = "biuf"  # the kinds of dtypes: truth values, integers, floating
SAFE = {  # dtypes of .safetensors
    **{name: np.dtype(name[0].lower() + str(int(name[1:]) // 8)) for name in ("F64", "F32", "F16")},
    **{f"{k}{bits}": np.dtype(f"{k.lower()}{bits // 8}") for k in "IU" for bits in (8, 16, 32, 64)},
    "BOOL": np.dtype(bool),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}


class ArraysError(UserError, ValueError):
    """Named arrays cannot be used; the text names the file or the keys."""


def load_arrays(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Reads a `.npz`, `.safetensors` or `.pt`/`.pth` file into NumPy arrays by name.

    Pickled content is refused: `.npz` is read with `allow_pickle=False`, `.pt` (which needs
    PyTorch to be installed) with `weights_only=True`. No more memory is asked for than the file
    has content for. Arrays in bfloat16 become float32, which NumPy knows.

    Raises:
        ArraysError: the file is missing, damaged, holds pickled objects or what is no array of
            real numbers, or is of another type; or the package that reads its type is not
            installed.
    """
    path = pathlib.Path(path)
    readers = {".npz": _npz, ".safetensors": _safetensors, ".pt": _torch, ".pth": _torch}
    if path.suffix not in readers:
        raise ArraysError(f"{path}: expected a file ending in {', '.join(readers)}")
    if not path.is_file():
        raise ArraysError(f"{path}: no such file")
    try:
        arrays = readers[path.suffix](path)
    except ArraysError as e:
        raise ArraysError(f"{path}: {e}") from e
    except Exception as e:  # whatever a file that is not what it should be makes a reader raise
        text = " ".join(str(e).split()) or type(e).__name__
        raise ArraysError(f"{path}: not a readable {path.suffix} of plain arrays ({text})") from e
    for name, array in arrays.items():
        if array.dtype.kind not in NUMBERS:
            raise ArraysError(f"{path}: {name!r} is of {array.dtype}, expected real numbers")
    return arrays


def save_arrays(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a `.npz` file.

    Raises:
        UserError: the name has another ending, or cannot be written.
    """
    if path.suffix != ".npz":
        raise UserError(f"{path}: expected a file ending in .npz")
    try:
        np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}") from e


def _npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    with opened(path) as file:
        if file.read(6) == np.lib.format.MAGIC_PREFIX:
            raise ArraysError("one bare array, not an .npz archive")
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            _check_memory(sum(entry.file_size for entry in entries))
            for entry in entries:
                _check_header(archive, entry)
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}


def _check_header(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """An array must be as long as its header says; NumPy would ask for the memory first."""
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):  # a later one has names that are no numbers' either
            raise ArraysError(f"{entry.filename!r} is no plain array")
        first = version == (1, 0)
        read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        there = entry.file_size - file.tell()
    if dtype.hasobject:
        raise ArraysError(f"{entry.filename!r} holds pickled objects")
    if math.prod(shape) * dtype.itemsize != there or min(shape, default=0) < 0:
        said = f"is {dtype}{list(shape)} by its header"
        raise ArraysError(f"{entry.filename!r} {said}, but has {there} bytes")


def _safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        import safetensors
    except ImportError as e:
        raise ArraysError("install the package safetensors to read it") from e
    _check_memory(path.stat().st_size)
    arrays = {}
    for name, entry in safetensors.deserialize(read_bytes(path)):
        if entry["dtype"] not in SAFE:
            raise ArraysError(f"{name!r} is of {entry['dtype']}, expected real numbers")
        array = np.frombuffer(entry["data"], SAFE[entry["dtype"]]).reshape(entry["shape"])
        arrays[name] = array.astype(np.float32) if entry["dtype"] == "BF16" else array
    return arrays


def _torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError as e:
        raise ArraysError("install PyTorch to read it, or save its state_dict as .npz") from e
    content = torch.load(path, map_location="cpu", weights_only=True)
    content = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items()
    ):
        raise ArraysError("expected a state_dict, a mapping of names to tensors")
    return {name: _of_tensor(name, tensor) for name, tensor in content.items()}


def _of_tensor(name: str, tensor: Any) -> np.ndarray:
    """One of PyTorch's tensors, which may be much that an array is not."""
    import torch  # pyright: ignore[reportMissingImports]

    kinds = {
        "sparse": tensor.layout != torch.strided,
        "nested": tensor.is_nested,
        "quantized": tensor.is_quantized,
        "without values": tensor.is_meta,
        "complex": tensor.is_complex(),
    }
    for kind, so in kinds.items():
        if so:
            raise ArraysError(f"{name!r} is {kind}, expected a dense tensor of real numbers")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ArraysError(f"{name!r} is {list(tensor.shape)}, but repeats what it has")
    tensor = tensor.detach().resolve_neg()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _check_memory(size: int) -> None:
    """A small archive can claim to unfold into more than there is."""
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size > there:
        raise ArraysError(f"{size:,} bytes of arrays, more than this machine's memory")
