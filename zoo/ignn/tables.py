"""Text files with the same few numbers in every line."""

import io
import pathlib
import warnings

import numpy as np

from zoo.errors import UserError
from zoo.files import read_bytes


def read_table(
    path: pathlib.Path,
    kind: type[int] | type[float],
    *,
    columns: int | None = None,
    rows: int | None = None,
    delimiter: str | None = None,
) -> np.ndarray:
    """The numbers of a file, (R, C) int64 or float64.

    Args:
        path: of the file.
        kind: whether they are integers.
        columns: numbers in a line; any number, the same in all, by default.
        rows: lines, not counting empty ones at the end; any number by default.
        delimiter: between numbers; white space by default.

    Raises:
        UserError: there is no such file, or it is another one; names the line.
    """
    lines = read_lines(path)
    table = np.zeros((0, columns or 0), kind)
    text, options = io.StringIO("\n".join(lines)), {"comments": None, "delimiter": delimiter}
    try:
        with warnings.catch_warnings(action="error"):  # such as of 1.5 for an integer
            table = np.loadtxt(text, kind, ndmin=2, **options) if lines else table
        right = len(table) == len(lines) and columns in (None, table.shape[1])
    except (ValueError, DeprecationWarning):
        right = False
    if not right:
        raise _wrong_line(path, lines, kind, columns, delimiter)
    if rows not in (None, len(table)):
        raise UserError(f"{path}: {len(table)} lines, expected {rows}")
    return table


def read_lines(path: pathlib.Path) -> list[str]:
    """The lines of a text file, without empty ones at its end; raises as `read_table`."""
    try:
        text = read_bytes(path).decode()
    except UnicodeDecodeError as e:
        raise UserError(f"{path}: is not UTF-8 text ({e.reason} at byte {e.start})") from e
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror})") from e
    return text.rstrip().splitlines()


def check_column(path: pathlib.Path, values: np.ndarray, low: int, high: int) -> None:
    """Raises UserError for the first line with a number that is not in `low`, ..., `high`."""
    outside = (values < low) | (values > high)
    if outside.any():
        at = np.unravel_index(np.argmax(outside), values.shape)
        raise UserError(f"{path}, line {at[0] + 1}: {values[at]}, expected {low} to {high}")


def _wrong_line(
    path: pathlib.Path,
    lines: list[str],
    kind: type[int] | type[float],
    columns: int | None,
    delimiter: str | None,
) -> UserError:
    """What to say of the first line that is not as it should be."""
    what = "integers" if kind is int else "numbers"
    for number, line in enumerate(lines, start=1):
        words = line.split(delimiter)
        columns = columns or len(words)
        if len(words) != columns or not all(_is(kind, word) for word in words):
            shown = line if len(line) <= 40 else f"{line[:40]}..."
            return UserError(f"{path}, line {number}: {shown!r}, expected {columns} {what}")
    return UserError(f"{path}: cannot be read, expected {what} in every line")


def _is(kind: type[int] | type[float], word: str) -> bool:
    try:
        value = kind(word)
    except ValueError:
        return False
    return kind is float or -(2**63) <= value < 2**63
