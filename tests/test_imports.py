"""Who imports whom: no circles, and no import from a lower floor to a higher one.

`python -m tests.test_imports` prints the floors and what each room stands on.
"""

import ast
import functools
import pathlib
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FLOORS = {  # from the ground up; rooms of one floor do not know each other
    "jdeq": (
        "_evidence _info _jaxprs _lanes _linen _method _named _pace _pairs _powers _version",
        "_checks _space _warn",
        "_loop _spectrum _state _widened norm options",
        "_hoist kernel_norms solvers",
        "_communication",
        "_programs _splitting _stream regularization",
        "_problem",
        "backward",
        "_deq extend",
        "_deq_options _sliced diagnostics",
        "config",
        "_configured command_line",
        "nn",
    ),
    "zoo": (
        "errors extra files figures interrupts pictures program_name solves",
        "arrays plain_json settings",
        "precision schedules",
        "nn",
        "data upstream",
        "task",
        "registry artefact optimizer state",
        "listing plugins run devices",
        "folder",
        "lock",
        "checkpoints logs",
        "training ignn lm mdeq",
        "commands",
        "cli",
        "__main__",
    ),
}


@functools.cache
def modules() -> dict[str, pathlib.Path]:
    """All modules of both packages by dotted name."""
    found = {}
    for package in FLOORS:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


@functools.cache
def imports(name: str) -> set[str]:
    """Modules that one names in an import, anywhere in it, for types as well."""
    path, found = modules()[name], set()
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, *filter(None, [node.module])])
            inner = {f"{base}.{alias.name}" for alias in node.names}
            found |= (inner & modules().keys()) or {base}
    return (found & modules().keys()) - {name}


def room(name: str) -> str:
    """The module or package right below `jdeq` or `zoo` that a module belongs to."""
    return ".".join(name.split(".")[:2])


def floors_of(package: str) -> dict[str, int]:
    """The number of each room's floor."""
    floors = enumerate(FLOORS[package])
    return {f"{package}.{each}": number for number, names in floors for each in names.split()}


def upward(package: str) -> Iterator[str]:
    """Imports of another room on the same floor, of a higher one, or of the whole package."""
    floors = floors_of(package)
    for name in modules():
        here = room(name)
        for other in imports(name) if here in floors else ():
            there = room(other)
            if there == package or floors.get(there, -1) >= floors[here] and there != here:
                yield f"{name} imports {other}"


def circle() -> list[str]:
    """Modules that import each other in turn, if there are any."""
    done: set[str] = set()

    def search(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for other in sorted(imports(name)):
            if found := search(other, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in modules() if (found := search(name, []))), [])


@pytest.mark.parametrize("package", FLOORS)
def test_every_room_has_a_floor(package):
    rooms = {room(name) for name in modules() if name.startswith(f"{package}.")}
    assert rooms == floors_of(package).keys()


@pytest.mark.parametrize("package", FLOORS)
def test_imports_lead_down(package):
    assert list(upward(package)) == []


def test_there_is_no_circle():
    assert circle() == []


def test_the_library_does_not_know_the_zoo():
    of_zoo = [n for n in modules() if n.startswith("jdeq") for o in imports(n) if "zoo" in o]
    assert of_zoo == []


if __name__ == "__main__":
    for package, floors in FLOORS.items():
        for number, names in enumerate(floors):
            for each in names.split():
                mine = [n for n in modules() if room(n) == f"{package}.{each}"]
                below = {room(o) for n in mine for o in imports(n)} - {f"{package}.{each}"}
                print(f"{number:2} {package}.{each}: {', '.join(sorted(below))}")
    print(f"circles: {circle() or 0}; upward: {sum(len(list(upward(p))) for p in FLOORS)}")
