"""The text of compiled programs: its computations, what runs in loops, the sizes of arrays."""

import math
import re
from collections.abc import Iterator, Mapping

BITS = {"pred": 8}  # of types whose name does not end in their size


def lines(hlo: str) -> Iterator[tuple[str, bool]]:
    """The lines of a program's computations, in their order, and whether a loop runs them."""
    bodies = dict(_computations(hlo))
    looped = _reachable(bodies, _loop_parts(hlo))
    for name, body in bodies.items():
        for line in body:
            yield line, name in looped


def shapes(text: str) -> tuple[str, ...]:
    """The array types in a text, as `f32[8,16]`."""
    return tuple(re.findall(r"\w+\[[\d,]*\]", text))


def nbytes(shape: str) -> int:
    """Of an array of this type."""
    dtype, dims = shape.rstrip("]").split("[")
    bits = BITS.get(dtype) or int(re.findall(r"\d+", dtype)[0])
    return math.prod(int(d) for d in dims.split(",") if d) * bits // 8


def _computations(hlo: str) -> Iterator[tuple[str, list[str]]]:
    """Name and lines of each computation of a program."""
    name, body = "", []
    for line in hlo.splitlines():
        start = re.match(r"(?:ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$", line)
        if start is not None:
            name, body = start[1], []
        elif line.startswith("}"):
            yield name, body
        else:
            body.append(line)


def _loop_parts(hlo: str) -> set[str]:
    """Names of the bodies and conditions of all loops."""
    loops = [line for line in hlo.splitlines() if re.search(r" while\(", line)]
    return {name for line in loops for name in re.findall(r"(?:body|condition)=%?([\w.\-]+)", line)}


def _reachable(bodies: Mapping[str, list[str]], start: set[str]) -> set[str]:
    """`start`, and all computations that they call."""
    seen, todo = set(), set(start)
    while todo:
        name = todo.pop()
        seen.add(name)
        for line in bodies.get(name, ()):
            called = re.findall(r"=\{?((?:%[\w.\-]+(?:, )?)+)\}?", line)
            names = {n for group in called for n in re.findall(r"%([\w.\-]+)", group)}
            todo |= (names & bodies.keys()) - seen
    return seen
