"""The packages that the zoo needs besides the library's."""

import importlib.util

NEEDED = ("optax", "orbax", "grain", "matplotlib", "tqdm", "sklearn", "PIL")  # as they are imported


def missing_packages() -> list[str]:
    """Those that are not installed; none of them is imported for that."""
    return [name for name in NEEDED if not _is_there(name)]


def what_to_do(missing: list[str]) -> str:
    """For people."""
    return f'the zoo needs {", ".join(missing)}: pip install "jdeq[zoo]"'


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
