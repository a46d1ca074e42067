"""What there is to say of a model and its presets in a few lines.

Counting parameters takes JAX, which takes seconds to import: a model of the zoo may have its lines
in its folder, as `listing.txt`; a test holds them to what `python -m zoo list --count` prints.
"""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # slow to import, which not every command needs
    from zoo.settings import Preset
    from zoo.task import Task

FILE = "listing.txt"


def kept(name: str) -> str | None:
    """The lines in a model's folder; None if it has none, or no folder here."""
    path = pathlib.Path(__file__).parent / name / FILE
    return path.read_text().rstrip("\n") if path.is_file() else None


def counted(task: Task) -> str:
    """The same, from the model itself."""
    lines = [f"{task.name}: {task.summary}"]
    for name, preset in task.presets.items():
        count = count_parameters(task, preset)
        lines.append(f"  {name:16} {count:>12,} parameters  {preset.data:18} {preset.summary}")
    return "\n".join(lines)


def count_parameters(task: Task, preset: Preset) -> int:
    """Parameters of a preset's model, without making any."""
    import jax
    from flax import nnx

    model = nnx.eval_shape(lambda: task.build(preset.model, preset.deq, rngs=nnx.Rngs(0)))
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
