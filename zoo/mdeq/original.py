"""The MDEQ's original, TorchDEQ's `mdeq/mdeq_cifar`: its names and its configuration."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.errors import UserError
from zoo.mdeq.config import MDEQConfig
from zoo.mdeq.model import MDEQ
from zoo.upstream.files import Arrays
from zoo.upstream.names import TorchNames
from zoo.upstream.original import Original

RULES = (
    # the equilibrium function sits inside the DEQ layer, and inside its weight norm if it has one
    (r"^full_stage\.cell\.module\.(.*)\.kernel$", r"full_stage.\1.weight_v"),
    (r"^full_stage\.cell\.scales\.(.*)\.kernel$", r"full_stage.\1.weight_g"),
    (r"^full_stage\.cell\.(module\.)?", "full_stage."),
    (r"^stem\.0\.conv", "downsample.0"),
    (r"^stem\.0\.bn", "downsample.1"),
    (r"^stem\.1\.conv", "downsample.3"),
    (r"^stem\.1\.bn", "downsample.4"),
    (r"^incre_modules\.(\d+)\.unit(\d)\.(conv|bn)", r"incre_modules.\1.0.\3\2"),
    (r"^incre_modules\.(\d+)\.shortcut", r"incre_modules.\1.0.downsample"),
    (r"^(stage0|final_layer|downsamp_modules\.\d+|incre_.*\.downsample)\.conv", r"\1.0"),
    (r"^(stage0|final_layer|downsamp_modules\.\d+|incre_.*\.downsample)\.bn", r"\1.1"),
)
SUPPORTED = {"NUM_MODULES": 1, "BLOCK": "BASIC", "FUSE_METHOD": "SUM"}


class MDEQOriginal(Original):
    """See `zoo.upstream.original.Original`."""

    module = MDEQ
    layer = "full_stage"
    prefix = "full_stage."
    files = (*Original.files, "grads_ift", "grads_phantom")

    def names(self, model: MDEQ) -> TorchNames:
        """The table for a model of these sizes."""
        ignored = r"\.num_batches_tracked$"
        if model.config.n_branches == 1:  # the original makes these units but never applies them
            ignored += r"|^full_stage\.post_fuse_layers\."
        return TorchNames(rules=RULES, ignored=ignored)

    def sizes(self, content: Mapping[str, Any]) -> MDEQConfig:
        """As its YAML files and reference folders give them."""
        upstream = content["upstream_config"]["MODEL"]
        stage = upstream["EXTRA"]["FULL_STAGE"]
        for name, value in SUPPORTED.items():
            if stage[name] != value:
                raise UserError(f"{name} is {stage[name]!r}, only {value!r} is supported")
        channels = stage["NUM_CHANNELS"]
        if stage["NUM_BRANCHES"] != len(channels):
            raise UserError(f"NUM_BRANCHES is {stage['NUM_BRANCHES']}, but NUM_CHANNELS {channels}")
        height, width = upstream["IMAGE_SIZE"]
        return MDEQConfig(
            channels=channels,
            head_channels=stage["HEAD_CHANNELS"],
            final_channels=stage["FINAL_CHANSIZE"],
            n_blocks=stage["NUM_BLOCKS"],
            n_groups=upstream["NUM_GROUPS"],
            expansion=upstream["EXPANSION_FACTOR"],
            downsample_times=upstream["DOWNSAMPLE_TIMES"],
            n_classes=upstream["NUM_CLASSES"],
            image_size=(height, width),
        )

    def recorded_sizes(self, sizes: MDEQConfig, io: Arrays) -> MDEQConfig:
        """Those of the images that were recorded."""
        if io["x"].ndim != 4:
            raise UserError(f"{io.path}: array x has {io['x'].ndim} axes, expected 4 (NCHW)")
        _, channels, height, width = io["x"].shape
        return dataclasses.replace(sizes, in_channels=channels, image_size=(height, width))

    def layout(self, sizes: MDEQConfig, name: str, array: np.ndarray) -> np.ndarray:
        """Feature maps are NHWC here, NCHW there."""
        return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array
