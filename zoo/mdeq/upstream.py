"""The configuration of the PyTorch original, as its YAML files and reference folders give it."""

from collections.abc import Mapping
from typing import Any

from zoo.errors import UserError
from zoo.mdeq.config import MDEQConfig


def model_config(
    content: Mapping[str, Any], in_channels: int = 3, image_size: tuple[int, ...] | None = None
) -> MDEQConfig:
    """Sizes of the model.

    Args:
        content: the configuration.
        in_channels: channels of the images.
        image_size: their height and width, instead of the configured ones.

    Raises:
        UserError: what it asks for is not supported.
        KeyError, TypeError, ValueError: an entry is missing or impossible.
    """
    upstream = content["upstream_config"]["MODEL"]
    stage = upstream["EXTRA"]["FULL_STAGE"]
    supported = {"NUM_MODULES": 1, "BLOCK": "BASIC", "FUSE_METHOD": "SUM"}
    for name, value in supported.items():
        if stage[name] != value:
            raise UserError(f"{name} is {stage[name]!r}, only {value!r} is supported")
    if stage["NUM_BRANCHES"] != len(stage["NUM_CHANNELS"]):
        raise UserError(
            f"NUM_BRANCHES is {stage['NUM_BRANCHES']}, but NUM_CHANNELS {stage['NUM_CHANNELS']}"
        )
    height, width = image_size or upstream["IMAGE_SIZE"]
    return MDEQConfig(
        channels=stage["NUM_CHANNELS"],
        head_channels=stage["HEAD_CHANNELS"],
        final_channels=stage["FINAL_CHANSIZE"],
        n_blocks=stage["NUM_BLOCKS"],
        n_groups=upstream["NUM_GROUPS"],
        expansion=upstream["EXPANSION_FACTOR"],
        downsample_times=upstream["DOWNSAMPLE_TIMES"],
        n_classes=upstream["NUM_CLASSES"],
        in_channels=in_channels,
        image_size=(height, width),
    )
