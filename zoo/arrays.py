"""Named arrays in files, read without ever running code that is stored in one."""

import pathlib
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np

from zoo.errors import UserError


class ArraysError(UserError, ValueError):
    """Named arrays cannot be used; the text names the file or the keys."""


def load_arrays(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Reads a `.npz`, `.safetensors` or `.pt`/`.pth` file into NumPy arrays by name.

    Pickled content is refused: `.npz` is read with `allow_pickle=False`, `.pt` (which needs
    PyTorch to be installed) with `weights_only=True`.

    Raises:
        ArraysError: the file is missing, damaged, holds pickled objects, or is of another
            type; or the package that reads its type is not installed.
    """
    path = pathlib.Path(path)
    readers = {".npz": _npz, ".safetensors": _safetensors, ".pt": _torch, ".pth": _torch}
    if path.suffix not in readers:
        raise ArraysError(f"{path}: expected a file ending in {', '.join(readers)}")
    if not path.is_file():
        raise ArraysError(f"{path}: no such file")
    return readers[path.suffix](path)


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
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as e:
        raise ArraysError(f"{path}: not a readable .npz of plain arrays ({e})") from e
    except (AttributeError, TypeError) as e:  # a bare .npy under this name loads as one array
        raise ArraysError(f"{path}: one bare array, not an .npz archive") from e


def _safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        import safetensors
        import safetensors.numpy
    except ImportError as e:
        raise ArraysError(f"{path}: install the package safetensors to read it") from e
    try:
        return safetensors.numpy.load_file(path)
    except (OSError, safetensors.SafetensorError, KeyError, TypeError) as e:
        raise ArraysError(f"{path}: not a readable .safetensors file ({e})") from e


def _torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError as e:
        raise ArraysError(
            f"{path}: install PyTorch to read it, or save its state_dict as .npz"
        ) from e
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # torch raises many kinds, none of them its own
        raise ArraysError(f"{path}: not a readable file of weights only ({e})") from e
    content = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(
        isinstance(value, torch.Tensor) for value in content.values()
    ):
        raise ArraysError(f"{path}: expected a state_dict, a mapping of names to tensors")
    return {
        name: (t.float() if t.dtype == torch.bfloat16 else t).numpy() for name, t in content.items()
    }
