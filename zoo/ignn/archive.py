"""The arrays of an `.npz` file, with what is expected of each."""

import pathlib
from collections.abc import Mapping

import numpy as np

from zoo.arrays import NUMBERS, load_arrays
from zoo.data.checksums import verify_checksums
from zoo.errors import UserError
from zoo.ignn.shapes import INTEGERS, unlike


class Archive:
    """The file `path` with its arrays.

    Raises:
        UserError: it is missing or damaged; names it.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        self._arrays: Mapping[str, np.ndarray] = load_arrays(path)

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def integers(self, name: str, *shape: int | None) -> np.ndarray:
        """An array of integers, as int64, of this shape, where None is any length."""
        array = self._array(name, shape, INTEGERS)
        if array.dtype == np.uint64 and array.max(initial=0) > np.iinfo(np.int64).max:
            raise UserError(f"{self.path}: {name!r} has {array.max()}, expected less than 2^63")
        return array.astype(np.int64)

    def numbers(self, name: str, *shape: int | None) -> np.ndarray:
        """An array of any numbers."""
        return self._array(name, shape, NUMBERS)

    def offsets(self, name: str, total: int) -> np.ndarray:
        """Where each of some parts of a whole of this length begins, and the last one ends."""
        offsets = self.integers(name, None)
        if not len(offsets) or offsets[0] != 0 or offsets[-1] != total:
            raise UserError(f"{self.path}: {name!r} does not go from 0 to {total}")
        falls = np.diff(offsets) < 0
        if falls.any():
            row = int(np.argmax(falls)) + 1
            raise UserError(
                f"{self.path}: {name!r}, row {row}: {offsets[row]}, expected at least "
                f"{offsets[row - 1]} as in the row before"
            )
        return offsets

    def check_range(self, name: str, values: np.ndarray, low: int, below: int) -> None:
        """Raises UserError for the first of `values`, of the array `name`, that is outside."""
        outside = (values < low) | (values >= below)
        if outside.any():
            where = np.unravel_index(np.argmax(outside), values.shape)
            raise UserError(
                f"{self.path}: {name!r}, row {where[0]}: {values[where]}, "
                f"expected {low} to {below - 1}"
            )

    def _array(self, name: str, shape: tuple[int | None, ...], kinds: str) -> np.ndarray:
        if name not in self._arrays:
            raise UserError(f"{self.path}: no array named {name!r}")
        array = self._arrays[name]
        if (found := unlike(array, shape, kinds)) is not None:
            raise UserError(f"{self.path}: {name!r} is {found}")
        return array


def data_folder(folder: pathlib.Path | None, wanted: str) -> pathlib.Path:
    """A folder that was asked for, with its checksums verified if it has any.

    Raises:
        UserError: none was given, or there is none.
    """
    if folder is None:
        raise UserError(f"this preset needs data: give --data DIR with {wanted}")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    verify_checksums(folder)
    return folder
