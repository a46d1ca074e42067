"""The sections in order of worth: the module of each, its share of the time, the flags of XLA."""

import dataclasses
from collections.abc import Mapping

# With WHILE, a loop that has fewer than five steps of the program beside it is left out of command
# buffers, and all that is in it too: hence the smallest size.
COMMAND_BUFFER = "--xla_gpu_graph_min_graph_size=1 --xla_gpu_enable_command_buffer="


@dataclasses.dataclass(frozen=True)
class Part:
    """A section's run with one set of flags.

    Args:
        section: what `--only` names.
        module: of `benchmarks.gpu`; it has `jobs(context)`.
        share: of the time, relative to that of the other parts.
        flags: of XLA. It reads them when JAX starts, so each part has a process of its own.
    """

    section: str
    module: str
    share: float
    flags: str = ""


PARTS = (
    Part("card", "card", 0.06),
    Part("correct", "correct", 0.13),
    Part("overhead", "overhead", 0.14),
    Part("flags", "overhead", 0.12, COMMAND_BUFFER + "+WHILE"),
    Part("flags", "overhead", 0.05, COMMAND_BUFFER + "+WHILE,+CONDITIONAL"),
    Part("peers", "peers", 0.2),
    Part("zoo", "zoo_steps", 0.15),
    Part("train", "train", 0.15),
)
SECTIONS = tuple(dict.fromkeys(part.section for part in PARTS))


def environment(part: Part, inherited: Mapping[str, str], device: str) -> dict[str, str]:
    """The environment of a part's process."""
    flags = " ".join(filter(None, (inherited.get("XLA_FLAGS", ""), part.flags)))
    # torch takes memory of the same card
    made = {**inherited, "XLA_FLAGS": flags, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if device == "cpu":
        made["JAX_PLATFORMS"] = "cpu"
    return made
