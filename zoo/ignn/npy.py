"""One array in a file, read without ever running code that is stored in it."""

import math
import pathlib

import numpy as np

from zoo.arrays import NUMBERS
from zoo.errors import UserError
from zoo.files import opened
from zoo.ignn.shapes import unlike


def read_npy(path: pathlib.Path, *shape: int | None) -> np.ndarray:
    """An array of numbers of this shape, where None is any length, from a `.npy` file.

    Raises:
        UserError: the file is missing or damaged, or holds another array.
    """
    try:
        with opened(path) as file:
            version = np.lib.format.read_magic(file)
            first = version == (1, 0)
            read = np.lib.format.read_array_header_1_0
            found, _, dtype = (read if first else np.lib.format.read_array_header_2_0)(file)
            there = path.stat().st_size - file.tell()
            plain = dtype.kind in NUMBERS and math.prod(found) * dtype.itemsize == there
            file.seek(0)
            array = np.load(file, allow_pickle=False) if plain else None
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror})") from e
    except Exception as e:  # whatever a file that is not what it should be makes NumPy raise
        text = " ".join(str(e).split())
        raise UserError(f"{path}: not a readable .npy of one plain array ({text})") from e
    if array is None:
        said = f"{dtype}{list(found)} by its header"
        raise UserError(f"{path}: {said}, expected numbers, as many as its {there} bytes hold")
    if (wrong := unlike(array, shape)) is not None:
        raise UserError(f"{path}: {wrong}")
    return array
