"""Solves drawn by seed, solved and judged; each can be made again from its name."""

import dataclasses
import itertools
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jdeq import Status

from . import backward, forward
from .cases import Case, Outcome, Program
from .judge import FAULTS, VERDICTS, judge

_MODULES: dict[str, Any] = {"forward": forward, "backward": backward}
DIRECTIONS = tuple(_MODULES)


@dataclasses.dataclass(frozen=True)
class Solve:
    """A solve that was made, and what the judge says of it."""

    program: Program
    seed: int
    call: int
    case: Case
    outcome: Outcome
    verdict: np.ndarray
    excess: np.ndarray

    @property
    def name(self) -> str:
        return f"{self.seed}:{self.call}:{self.program.name}"

    @property
    def converged(self) -> np.ndarray:
        return self.outcome.status == Status.CONVERGED

    @property
    def faults(self) -> np.ndarray:
        """The samples at fault."""
        return np.flatnonzero(np.isin(self.verdict, FAULTS))

    def fault_lines(self) -> Iterator[dict[str, Any]]:
        for i in self.faults:
            yield {"replay": self.name, **self.sample(i)}

    def sample(self, i: int) -> dict[str, Any]:
        """What there is to know of a sample, in units of its scale."""
        case, outcome, scale = self.case, self.outcome, self.case.scale[i, 0]
        return {
            "sample": int(i),
            "verdict": VERDICTS[self.verdict[i]],
            "excess": float(self.excess[i]),
            **case.sample(i),
            "status": Status(int(outcome.status[i])).name,
            "abs_residual": float(outcome.abs_residual[i]),
            "rel_residual": float(outcome.rel_residual[i]),
            "z": (outcome.z[i] / scale).tolist(),
        }

    def describe(self) -> str:
        """All samples, for people."""
        lines = [self.name]
        for i in range(len(self.verdict)):
            mark = "FAULT" if i in self.faults else "     "
            parts = (f"{k} {_short(v)}" for k, v in self.sample(i).items())
            lines.append(f"{mark} " + ", ".join(parts))
        return "\n".join(lines)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return "[" + " ".join(map(_short, value)) + "]"
    return str(value)


def programs(directions: Sequence[str]) -> list[Program]:
    """What is to be compiled, mixed, so that a part of them is as good as any other."""
    found = [p for d in directions for p in _MODULES[d].PROGRAMS]
    return sorted(found, key=lambda p: zlib.crc32(p.name.encode()))


def draw(program: Program, seed: int, call: int) -> Case:
    return _MODULES[program.direction].draw(program, seed, call)


def make(program: Program, seed: int, call: int) -> Solve:
    """The solve of these numbers."""
    case = draw(program, seed, call)
    outcome = _MODULES[program.direction].run(case)
    return Solve(program, seed, call, case, outcome, *judge(case, outcome))


def solves(program: Program, seed: int, count: int, family: str = "") -> Iterator[Solve]:
    """The first `count` of a family whose name holds `family`; none, if there is no such family."""
    if any(family in f.name for f in program.families):
        numbers = itertools.count()
        wanted = (c for c in numbers if family in draw(program, seed, c).family.name)
        for call in itertools.islice(wanted if family else numbers, count):
            yield make(program, seed, call)


def replay(name: str) -> Solve:
    """The solve of this name; raises a `ValueError` if there is none."""
    seed, call, program = name.split(":", 2)
    (found,) = (p for p in programs(DIRECTIONS) if p.name == program)
    return make(found, int(seed), int(call))
