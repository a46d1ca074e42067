"""What shape and kind of numbers an array should have, and how to say that it has not."""

import numpy as np

from zoo.arrays import NUMBERS

INTEGERS = "iu"  # the kinds of dtypes
WORDS = {INTEGERS: "integers", NUMBERS: "numbers"}


def unlike(array: np.ndarray, shape: tuple[int | None, ...], kinds: str = NUMBERS) -> str | None:
    """What an array is, and what was expected; None if that is what it is.

    Args:
        array: any.
        shape: what is expected, where None is any length.
        kinds: of dtypes, `INTEGERS` or `NUMBERS`.

    Example:
        >>> unlike(np.zeros((2, 3)), (2, None))
        >>> unlike(np.zeros((2, 3)), (None,), INTEGERS)
        'float64 of shape (2, 3), expected (any,) integers'
    """
    fits = len(shape) == array.ndim and all(
        n in (None, m) for n, m in zip(shape, array.shape, strict=True)
    )
    if fits and array.dtype.kind in kinds:
        return None
    wanted = ", ".join("any" if n is None else str(n) for n in shape)
    wanted += "," if len(shape) == 1 else ""
    return f"{array.dtype} of shape {array.shape}, expected ({wanted}) {WORDS[kinds]}"
