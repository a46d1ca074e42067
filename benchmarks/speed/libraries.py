"""The libraries that are installed."""

import importlib
import importlib.util
from collections.abc import Sequence

from .by_jdeq import Jdeq
from .runs import Library

PEERS = {
    "torchdeq": ("by_torchdeq", "TorchDEQ"),
    "jaxopt": ("by_jaxopt", "Jaxopt"),
    "optimistix": ("by_optimistix", "Optimistix"),
}
NAMES = ("jdeq", *PEERS)


def load(names: Sequence[str], threads: int) -> list[Library]:
    """Those of `names` that are there, with a line about every other one."""
    found: list[Library] = [Jdeq()] if "jdeq" in names else []
    for name, (module, kind) in PEERS.items():
        if name not in names:
            continue
        if importlib.util.find_spec(name) is None:
            print(f"{name} is not installed: left out")
            continue
        make = getattr(importlib.import_module(f"{__package__}.{module}"), kind)
        found.append(make(threads) if name == "torchdeq" else make())
    return found
