"""Sizes of a multiscale DEQ."""

import dataclasses

from jdeq.options import from_data, option
from zoo.settings import ModelConfig


@dataclasses.dataclass(frozen=True)
class MDEQConfig(ModelConfig):
    """Sizes of an MDEQ; branch i works at 1/2^i of the resolution after the stem.

    Args:
        channels: channels C_i of each branch; its length is the number of branches.
        head_channels: width h_i of each branch's bottleneck in the head (4 h_i come out).
        final_channels: channels of the last convolution, before global pooling.
        n_blocks: residual blocks of each branch.
        n_groups: groups of the group norms (the one after fusion has half as many).
        expansion: a residual block's inner width is `expansion * C_i`.
        downsample_times: how many of the stem's two convolutions have stride 2.
        n_classes: classes.
        in_channels: channels of the input image.
        image_size: height and width of the input image.

    Raises:
        TypeError, ValueError: a setting is impossible; the text names it and its value.
    """

    channels: tuple[int, ...] = option((24, 24), "channels of each branch", low=1)
    head_channels: tuple[int, ...] = option((8, 16), "bottleneck width of each head block", low=1)
    final_channels: int = option(200, "channels before global pooling", low=1)
    n_blocks: tuple[int, ...] = option((1, 1), "residual blocks of each branch", low=1)
    n_groups: int = option(8, "groups of the group norms", low=2)
    expansion: int = option(
        5, "inner width of a residual block, in multiples of its channels", low=1
    )
    downsample_times: int = option(0, "how many stem convolutions have stride 2", low=0, high=2)
    n_classes: int = from_data(10, low=1)
    in_channels: int = from_data(3, low=1)
    image_size: tuple[int, int] = from_data((32, 32), low=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        n = len(self.channels)
        if n < 1:
            raise ValueError("channels must name at least one branch")
        for name in ("head_channels", "n_blocks"):
            if len(getattr(self, name)) != n:
                raise ValueError(
                    f"{name} must have one entry for each of the {n} channels, "
                    f"got {getattr(self, name)}"
                )
        for groups in (self.n_groups, self.n_groups // 2):
            if any(c % groups for c in self.channels):
                raise ValueError(
                    f"channels {self.channels} must be divisible by {groups} "
                    f"(n_groups={self.n_groups}, half of it after the fusion)"
                )
        self.check_image(*self.image_size)

    @property
    def n_branches(self) -> int:
        """How many resolutions there are."""
        return len(self.channels)

    @property
    def has_stage0(self) -> bool:
        """Whether a 1x1 convolution stands between stem and injection."""
        return self.downsample_times > 0 or self.n_branches > 2

    def check_image(self, height: int, width: int) -> None:
        """Raises ValueError unless every branch halves the one above it exactly."""
        step = 2 ** (self.n_branches - 1)
        for side in (height, width):
            after_stem = -(-side // 2**self.downsample_times)
            if after_stem % step:
                raise ValueError(
                    f"an image side of {side} is {after_stem} after the stem, which must be "
                    f"divisible by {step} for {self.n_branches} branches"
                )
