"""`python -m zoo list`."""

import argparse
from collections.abc import Sequence

import jax
from flax import nnx

from zoo.plugins import add_plugin_option
from zoo.registry import get_task, model_names
from zoo.settings import Preset
from zoo.task import Task


def list_models(argv: Sequence[str]) -> int:
    """models, presets, parameter counts and data"""
    parser = argparse.ArgumentParser(prog="python -m zoo list", allow_abbrev=False)
    add_plugin_option(parser)
    parser.parse_args(argv)
    for name in model_names():
        task = get_task(name)
        print(f"{name}: {task.summary}")
        for preset_name, preset in task.presets.items():
            count = count_parameters(task, preset)
            print(f"  {preset_name:16} {count:>12,} parameters  {preset.data:18} {preset.summary}")
    return 0


def count_parameters(task: Task, preset: Preset) -> int:
    """Parameters of a preset's model, without making any."""
    model = nnx.eval_shape(lambda: task.build(preset.model, preset.deq, rngs=nnx.Rngs(0)))
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
