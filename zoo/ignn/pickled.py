"""Arrays out of pickles, none of which is ever run: their instructions are read as data."""

import math
import pathlib
import pickletools
from typing import Any, NamedTuple

import numpy as np

from zoo.arrays import NUMBERS
from zoo.errors import UserError
from zoo.files import read_bytes
from zoo.ignn.csr import dense

KNOWN = {  # what a pickle may name: none of it is imported
    "numpy.core.multiarray _reconstruct": "array",
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "scipy.sparse.csr csr_matrix": "csr",
    "collections defaultdict": "lists",
    "__builtin__ list": "list",
}
SAID = ("BININT", "BININT1", "BININT2", "BINSTRING", "SHORT_BINSTRING")  # numbers and texts


class Name(NamedTuple):
    """What would be imported."""

    text: str


class Made(NamedTuple):
    """What would be an object: of what, with which arguments; `state`, [what was set later]."""

    of: str
    arguments: tuple
    state: list


def read_pickle(path: pathlib.Path) -> Any:
    """What a pickle of Python 2 holds, as Planetoid's are: one of three things.

    An array of numbers; a SciPy matrix (N, p), made dense, in float32; or lists of integers by
    integers. Python's own reader, which can be made to call anything, has no part in it.

    Raises:
        UserError: the file is missing or damaged, or holds anything else; names it.
    """
    try:
        return _value(_run(read_bytes(path)))
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror})") from e
    except Exception as e:  # whatever a file that is not what it should be leads to
        text = " ".join(str(e).split()) or type(e).__name__
        raise UserError(f"{path}: not a readable pickle of plain arrays ({text})") from e


def _run(content: bytes) -> Any:
    """What the instructions leave behind; of a stack machine that knows these few."""
    stack: Any = []
    memo: Any = {}
    marks: list[int] = []

    def popped() -> list[Any]:
        """All since the last mark."""
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    for opcode, argument, _ in pickletools.genops(content):
        match opcode.name:
            case "PROTO":
                pass
            case "STOP":
                (value,) = stack
                return value
            case "MARK":
                marks.append(len(stack))
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode.name == "NEWTRUE")
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                stack.append(tuple(popped()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                n = int(opcode.name[-1])
                stack[-n:] = [tuple(stack[-n:])]
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "APPEND":
                item = stack.pop()
                stack[-1].append(item)
            case "APPENDS":
                items = popped()
                stack[-1].extend(items)
            case "SETITEMS":
                items = popped()
                target = stack[-1].state[0] if isinstance(stack[-1], Made) else stack[-1]
                target.update(zip(items[::2], items[1::2], strict=True))
            case "GLOBAL" if argument in KNOWN:
                stack.append(Name(KNOWN[argument]))
            case "REDUCE" | "NEWOBJ":
                arguments = stack.pop()
                stack.append(Made(stack.pop().text, arguments, [{}]))
            case "BUILD":
                state = stack.pop()
                stack[-1].state[0] = state
            case name if name in SAID:
                stack.append(argument)
            case name:
                raise ValueError(f"it has {name} {argument or ''}".rstrip())
    raise ValueError("it has no end")


def _value(made: Any) -> Any:
    """What the program has made; nothing in it is deeper than a list in a dictionary."""
    if made.of == "lists":
        of = made.state[0]
        for key, values in of.items():
            if not isinstance(values, list) or not all(type(v) is int for v in (key, *values)):
                raise ValueError("expected lists of integers")
        return of
    if made.of != "csr":
        return _array(made)
    state = made.state[0]
    n, features = state["_shape"]
    starts, columns, values = (_array(state[name]) for name in ("indptr", "indices", "data"))
    x = dense(starts, columns, values, features)
    if len(x) != n:
        raise ValueError(f"a matrix of {n} rows has {len(x)}")
    return x


def _array(made: Made) -> np.ndarray:
    """An array of numbers by its shape, its dtype and its bytes."""
    if made.of != "array":
        raise ValueError(f"{made.of}, expected an array")
    _, shape, kind, fortran, content = made.state[0]
    dtype = np.dtype(kind.arguments[0]).newbyteorder(kind.state[0][1].replace("|", "="))
    content = content.encode("latin-1")
    if dtype.kind not in NUMBERS or math.prod(shape) * dtype.itemsize != len(content):
        raise ValueError(f"an array is {dtype}{list(shape)}, and has {len(content)} bytes")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
