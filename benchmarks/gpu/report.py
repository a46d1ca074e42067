"""The results in Markdown."""

import importlib
from collections.abc import Sequence
from typing import Any

from .plan import PARTS, SECTIONS
from .records import Records


def markdown(records: Records) -> str:
    """A table for every part that has rows, and what is missing."""
    out = ["# On an accelerator", "`python -m benchmarks.gpu`: " + about(records.machine())]
    jobs = records.jobs()
    found = dict.fromkeys((record["section"], record["flags"]) for record in jobs)
    for section, flags in sorted(found, key=lambda key: SECTIONS.index(key[0])):
        mine = [r for r in jobs if (r["section"], r["flags"]) == (section, flags)]
        out += [f"## {section}" + (f" with `{flags}`" if flags else ""), notes(section)]
        out += [table([row for record in mine for row in record.get("rows", ())])]
        out += [remarks(mine, records.machine().get("date", ""))]
    return "\n\n".join(filter(None, out)) + "\n"


def about(machine: dict[str, Any]) -> str:
    """One paragraph."""
    versions = ", ".join(f"{name} {v}" for name, v in machine.get("versions", {}).items())
    found = [f"{name} {value}" for name, value in machine.items() if name != "versions" and value]
    return "; ".join([*found, versions])


def notes(section: str) -> str:
    module = next(part.module for part in PARTS if part.section == section)
    try:
        return importlib.import_module(f"{__package__}.{module}").NOTES
    except ImportError:  # made where more was installed
        return ""


def remarks(jobs: Sequence[dict[str, Any]], date: str) -> str:
    """What could not be measured, and why; what is of an earlier day; what was noted by hand."""
    found: dict[str, list[str]] = {}
    for job in jobs:
        for word in ("skipped", "failed", "note"):
            if word in job:
                found.setdefault(f"{word}, {job[word]}", []).append(job["job"])
        day = job["date"].partition(" ")[0]
        if "rows" in job and not date.startswith(day):
            found.setdefault(f"of {day}", []).append(job["job"])
    return "\n".join(f"- {why}: {some(names)}" for why, names in found.items())


def some(names: Sequence[str]) -> str:
    """At most four of them."""
    more = len(names) - 3
    return "; ".join(names if more < 2 else [*names[:3], f"and {more} more"])


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Columns in the order in which rows name them; nothing if there are no rows."""
    if not rows:
        return ""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(columns) + " |"]
    numbers = [all(not isinstance(row.get(c), str) for row in rows) for c in columns]
    lines += ["| " + " | ".join("---:" if n else "---" for n in numbers) + " |"]
    lines += ["| " + " | ".join(cell(row.get(c)) for c in columns) + " |" for row in rows]
    return "\n".join(lines)


def cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:.4g}" if value < 1e5 else f"{value:.0f}"
    if isinstance(value, list):
        return " ".join(map(cell, value))
    return str(value).replace("|", "/").replace("\n", " ")
