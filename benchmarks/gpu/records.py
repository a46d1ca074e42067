"""The results file: a JSON line for each job as soon as it is done."""

import json
import pathlib
from typing import Any

Record = dict[str, Any]


class Records:
    """What is in the file.

    A record is `{"machine": ...}`, or `{"section", "flags", "job", "seconds"}` with `"rows"`, a
    list of what was measured, or with `"skipped"` or `"failed"`, a line that says why not. A
    `"note"` is somebody's.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.all: list[Record] = [json.loads(line) for line in lines]

    def add(self, record: Record) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        self.all.append(record)

    def jobs(self) -> list[Record]:
        """The last record of each job, with the `"date"` of the run that it is of."""
        last, date = {}, ""
        for r in self.all:
            if "machine" in r:
                date = r["machine"].get("date", "")
            if "job" in r:
                last[r["section"], r["flags"], r["job"]] = {**r, "date": date}
        return list(last.values())

    def done(self, section: str, flags: str) -> set[str]:
        """The jobs that need not be done again."""
        return {
            r["job"]
            for r in self.jobs()
            if "rows" in r and (r["section"], r["flags"]) == (section, flags)
        }

    def rows(self) -> dict[str, list[Record]]:
        """All rows by section."""
        found: dict[str, list[Record]] = {}
        for record in self.jobs():
            found.setdefault(record["section"], []).extend(record.get("rows", []))
        return found

    def machine(self) -> Record:
        """Of the last run."""
        return next((r["machine"] for r in reversed(self.all) if "machine" in r), {})
