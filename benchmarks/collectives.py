"""Which collectives the compiled training step has: `python -m benchmarks.collectives`.

Compiles the step of published sizes for eight simulated devices, without making any array, and
prints a table for each layout. Takes a few minutes.
"""

import argparse
import dataclasses
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from zoo.devices.layout import Layout
from zoo.devices.mesh import Devices
from zoo.mdeq.config import MDEQConfig
from zoo.registry import get_task
from zoo.run import RunConfig
from zoo.training.program import Program

from .hlo import lines, nbytes, shapes

LAYOUTS = {
    "data=8": Devices("data=8"),
    "data=8 --fsdp": Devices("data=8", fsdp=True),
    "data=4,model=2": Devices("data=4,model=2"),
    "data=4,model=2 --fsdp": Devices("data=4,model=2", fsdp=True),
}
IMAGENET = MDEQConfig(  # the published small one for ImageNet
    channels=(32, 64, 128, 256),
    head_channels=(28, 56, 112, 224),
    final_channels=2048,
    n_blocks=(1, 1, 1, 1),
    downsample_times=2,
    n_classes=1000,
    image_size=(224, 224),
)
KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


class Collective(NamedTuple):
    """One collective operation of a compiled program.

    Attributes:
        kind: one of `KINDS`.
        shapes: of its results on one device.
        size: bytes of its results on one device.
        in_loop: whether it is inside a `while` loop.
        source: what it came from, as JAX names it.
    """

    kind: str
    shapes: tuple[str, ...]
    size: int
    in_loop: bool
    source: str

    @property
    def is_scalar(self) -> bool:
        """Whether it is about single numbers, such as an answer to "anyone still running?"."""
        return all(shape.endswith("[]") for shape in self.shapes)


def collectives(hlo: str) -> list[Collective]:
    """All collectives in the text of a compiled program, in the order of the text."""
    found = []
    for line, in_loop in lines(hlo):
        match = re.search(rf" = (.*?) ({'|'.join(KINDS)})(?:-start)?\(", line)
        if match is not None:
            results = shapes(match[1])
            source = re.search(r'op_name="([^"]*)"', line)
            size = sum(map(nbytes, results))
            found.append(Collective(match[2], results, size, in_loop, source[1] if source else ""))
    return found


def table(found: list[Collective]) -> str:
    """Markdown: number, bytes and largest result of each kind, inside and outside of loops."""
    groups: dict[tuple[bool, str, bool], list[Collective]] = {}
    for c in found:
        groups.setdefault((c.in_loop, c.kind, c.is_scalar), []).append(c)
    rows = ["| where | collective | how many | MB | largest result |", "|---|---|---|---|---|"]
    for (in_loop, kind, scalar), group in sorted(groups.items(), reverse=True):
        where = "in a loop" if in_loop else "once per step"
        what = f"{kind} of scalars" if scalar else kind
        largest = max((shape for c in group for shape in c.shapes), key=nbytes)
        size = sum(c.size for c in group) / 1e6
        rows.append(f"| {where} | {what} | {len(group)} | {size:.3g} | `{largest}` |")
    return "\n".join(rows)


def compiled_step(name: str, preset: str, devices: Devices, **changes: Any) -> str:
    """Text of the compiled training step of a preset, with other values for some fields.

    Args:
        name: of the model.
        preset: name of the preset.
        devices: the layout.
        changes: whole parts, `model`, `deq` or `train`, instead of the preset's.
    """
    task, config = get_task(name), published(name, preset, **changes)
    program = Program(task, config, Layout(devices))
    return program.compiled_step(_batch(config)).as_text() or ""


def published(name: str, preset: str, **changes: Any) -> RunConfig:
    """A run of a preset, with other values for some whole parts of it."""
    return RunConfig.of_preset(get_task(name), preset, data="none", **changes)


def _batch(config: RunConfig) -> Mapping[str, np.ndarray]:
    """Something in the shape of a training batch."""
    n = config.train.rows
    if config.name == "lm":
        tokens = np.zeros((n, config.model.tgt_len), np.int32)
        return {"x": tokens, "y": tokens, "fresh": np.array(False)}
    shape = (n, *config.model.image_size, config.model.in_channels)
    return {"x": np.zeros(shape, np.float32), "y": np.zeros(n, np.int32)}


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--only", help="the model, lm or mdeq")
    args = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", 8)
    large = get_task("mdeq").presets["cifar-large"]
    runs = {
        "lm": ("wikitext103", {}),
        "mdeq": (
            "cifar-large",
            {"model": IMAGENET, "train": dataclasses.replace(large.train, batch_size=128)},
        ),
    }
    for name, (preset, changes) in runs.items():
        for layout, devices in LAYOUTS.items():
            if args.only in (None, name):
                found = collectives(compiled_step(name, preset, devices, **changes))
                print(f"\n### {name}, {layout}\n\n{table(found)}", flush=True)


if __name__ == "__main__":
    main()
