"""The results file: rows are written as soon as they are done."""

import datetime
import json
import os
import pathlib
import platform
from collections.abc import Sequence
from importlib import metadata, util
from typing import Any

LIBRARIES = ("jdeq", "jax", "jaxlib", "numpy", "torch", "torchdeq", "jaxopt", "optimistix")


def threads() -> int:
    """The threads that XLA uses: one for each core it may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def version(package: str) -> str | None:
    """Of a package, if it is there."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # run from a checkout, or not there
        return "checkout" if util.find_spec(package.replace("-", "_")) else None


def machine() -> dict[str, Any]:
    """Date, processor, cores, threads, versions."""
    cpu = platform.processor() or platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        cpu = names[0].split(":")[1].strip() if names else cpu
    versions = {name: v for name in LIBRARIES if (v := version(name)) is not None}
    return {
        "date": str(datetime.date.today()),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": threads(),
        # its threads spin between calls unless told otherwise: bad on a machine that is shared
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "not set"),
        "python": platform.python_version(),
        "versions": versions,
    }


class Results:
    """Rows by section and name, kept in a JSON file.

    Args:
        path: of the file.
        resume: keep the rows that are in it; else those of `sections` are made anew.
        sections: that this run makes.
    """

    def __init__(self, path: pathlib.Path, *, resume: bool, sections: Sequence[str]):
        self.path = path
        old = json.loads(path.read_text()) if path.exists() else {"sections": {}}
        self.sections: dict[str, dict[str, Any]] = old["sections"]
        if not resume:
            for section in sections:
                self.sections.pop(section, None)
        self.machine = machine()

    def rows(self, section: str) -> dict[str, Any]:
        return self.sections.get(section, {})

    def add(self, section: str, name: str, row: Any) -> None:
        """Writes the row; the file is whole at any moment."""
        self.sections.setdefault(section, {})[name] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        data = {"machine": self.machine, "sections": self.sections}
        temporary.write_text(json.dumps(data, indent=1) + "\n")
        temporary.replace(self.path)
