"""The tables, and the faults as lines of JSON."""

import collections
from typing import Any, NamedTuple

import numpy as np

from .judge import FAULTS, UNSOLVED, VERDICTS


class Key(NamedTuple):
    """A row: what was solved, by what."""

    direction: str
    family: str
    variant: str


class Tally:
    """Counts per family and solver."""

    def __init__(self) -> None:
        self.rows: dict[Key, collections.Counter[str]] = collections.defaultdict(
            collections.Counter
        )

    def add(self, key: Key, verdict: np.ndarray, converged: np.ndarray, evaluations: int) -> None:
        row = self.rows[key]
        row["solves"] += 1
        row["samples"] += len(verdict)
        row["converged"] += int(converged.sum())
        row["evaluations"] += evaluations
        for i, name in enumerate(VERDICTS):
            row[name] += int((verdict == i).sum())

    def of(self, **where: str) -> collections.Counter[str]:
        """The sum over the rows whose keys hold these."""
        rows = (r for k, r in self.rows.items() if where.items() <= k._asdict().items())
        return sum(rows, collections.Counter())

    def faults(self, row: collections.Counter[str] | None = None) -> int:
        row = self.of() if row is None else row
        return sum(row[VERDICTS[i]] for i in FAULTS)

    def brief(self) -> str:
        total = self.of()
        named = ", ".join(f"{total[VERDICTS[i]]} {VERDICTS[i]}" for i in FAULTS)
        counts = ", ".join(f"{total[c]} {c}" for c in ("solves", "samples", "converged"))
        return f"{counts}; faults: {named}; unsolved: {total[VERDICTS[UNSOLVED]]}"

    def markdown(self, title: str, *, full: bool = False) -> str:
        """Per direction, a table by family and one by solver, or `full`: one of both."""
        text = [f"# {title}", self.brief()]
        for direction in sorted({k.direction for k in self.rows}):
            mine = sorted(k for k in self.rows if k.direction == direction)
            if full:
                rows = [([k.family, k.variant], self.rows[k]) for k in mine]
                text += [f"## {direction}", _table(["family", "solver"], rows)]
                continue
            for field, head in _HEADS.items():
                names = sorted({getattr(k, field) for k in mine})
                rows = [([n], self.of(direction=direction, **{field: n})) for n in names]
                rows.append((["all"], self.of(direction=direction)))
                text += [f"## {direction}, by {head}", _table([head], rows)]
        return "\n\n".join(text) + "\n"


_HEADS = {"family": "family", "variant": "solver"}


def _table(heads: list[str], rows: list[tuple[list[str], Any]]) -> str:
    columns = ["solves", "samples", "converged", *(VERDICTS[i] for i in FAULTS), "unsolved"]
    lines = ["| " + " | ".join([*heads, *columns, "evaluations per solve"]) + " |"]
    lines.append("| " + " | ".join(["---"] * len(heads) + ["---:"] * (len(columns) + 1)) + " |")
    for names, row in rows:
        escaped = (n.replace("|", "\\|") for n in names)
        cells = (str(row[c]) for c in columns)
        mean = f"{row['evaluations'] / max(1, row['solves']):.1f}"
        lines.append("| " + " | ".join([*escaped, *cells, mean]) + " |")
    return "\n".join(lines)
