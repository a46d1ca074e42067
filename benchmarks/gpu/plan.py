"""The sections in order of worth: the module of each, its share of the time, the flags of XLA."""

import dataclasses
from collections.abc import Mapping

# XLA reads them when JAX starts, so each needs a process of its own
FLAGS = {
    "default": "",
    "WHILE": "--xla_gpu_enable_command_buffer=+WHILE",
    "WHILE, CONDITIONAL": "--xla_gpu_enable_command_buffer=+WHILE,+CONDITIONAL "
    "--xla_gpu_graph_min_graph_size=1",
}


@dataclasses.dataclass(frozen=True)
class Part:
    """A section's run with one set of flags.

    Args:
        section: what `--only` names.
        module: of `benchmarks.gpu`; it has `jobs(context)`.
        share: of the time, relative to that of the other parts.
        flags: a name in `FLAGS`.
    """

    section: str
    module: str
    share: float
    flags: str = "default"


PARTS = (
    Part("card", "card", 0.06),
    Part("correct", "correct", 0.13),
    Part("overhead", "overhead", 0.14),
    Part("flags", "overhead", 0.12, "WHILE"),
    Part("flags", "overhead", 0.05, "WHILE, CONDITIONAL"),
    Part("peers", "peers", 0.2),
    Part("zoo", "zoo_steps", 0.15),
    Part("train", "train", 0.15),
)
SECTIONS = tuple(dict.fromkeys(part.section for part in PARTS))


def environment(part: Part, inherited: Mapping[str, str], device: str) -> dict[str, str]:
    """The environment of a part's process."""
    flags = " ".join(filter(None, (inherited.get("XLA_FLAGS", ""), FLAGS[part.flags])))
    # torch takes memory of the same card
    made = {**inherited, "XLA_FLAGS": flags, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if device == "cpu":
        made["JAX_PLATFORMS"] = "cpu"
    return made
