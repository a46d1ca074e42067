"""The zoo's MDEQ in PyTorch, on TorchDEQ: the same layers, sizes and settings."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torchdeq import get_deq
from torchdeq.norm import apply_norm, reset_norm

from zoo.mdeq.config import MDEQConfig


def conv(c_in: int, c_out: int, size: int, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, size, stride, (size - 1) // 2, bias=bias)


def conv_gn(c_in: int, c_out: int, size: int, groups: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(conv(c_in, c_out, size, stride), nn.GroupNorm(groups, c_out))


def conv_bn(c_in: int, c_out: int, size: int, stride: int = 1, **options: Any) -> nn.Sequential:
    affine = options.pop("affine", True)
    norm = nn.BatchNorm2d(c_out, affine=affine)
    return nn.Sequential(conv(c_in, c_out, size, stride, **options), norm)


class Residual(nn.Module):
    def __init__(self, c: int, inner: int, groups: int):
        super().__init__()
        self.conv1, self.conv2 = conv(c, inner, 3), conv(inner, c, 3)
        self.gn1, self.gn2, self.gn3 = (nn.GroupNorm(groups, n) for n in (inner, c, c))

    def forward(self, z, u):
        y = self.conv2(functional.relu(self.gn1(self.conv1(z)))) + u
        return self.gn3(functional.relu(self.gn2(y) + z))


class FullStage(nn.Module):
    """As `zoo.mdeq.full_stage.FullStage`, for two branches of one block each."""

    def __init__(self, config: MDEQConfig):
        super().__init__()
        (a, b), groups = config.channels, config.n_groups
        self.branches = nn.ModuleList(Residual(c, config.expansion * c, groups) for c in (a, b))
        self.up, self.down = conv_gn(b, a, 1, groups), conv_gn(a, b, 3, groups, stride=2)
        self.post = nn.ModuleList(conv_gn(c, c, 1, groups // 2) for c in (a, b))

    def forward(self, z, u):
        fine, coarse = (branch(zi, ui) for branch, zi, ui in zip(self.branches, z, u, strict=True))
        up = functional.interpolate(self.up(coarse), scale_factor=2, mode="nearest")
        fused = fine + up, coarse + self.down(fine)
        return [post(functional.relu(x)) for post, x in zip(self.post, fused, strict=True)]


class Bottleneck(nn.Module):
    def __init__(self, c_in: int, width: int):
        super().__init__()
        units = ((c_in, width, 1), (width, width, 3), (width, 4 * width, 1))
        self.units = nn.ModuleList(conv_bn(*unit, affine=False) for unit in units)
        same = c_in == 4 * width
        self.shortcut = nn.Identity() if same else conv_bn(c_in, 4 * width, 1)

    def forward(self, x):
        first, second, third = self.units
        y = third(functional.relu(second(functional.relu(first(x)))))
        return functional.relu(y + self.shortcut(x))


class MDEQ(nn.Module):
    """As `zoo.mdeq.model.MDEQ`, for two branches."""

    def __init__(self, config: MDEQConfig, deq: dict[str, Any]):
        super().__init__()
        (a, b), (h, k) = config.channels, config.head_channels
        self.coarse = b
        self.stem = nn.ModuleList([conv_bn(config.in_channels, a, 3), conv_bn(a, a, 3)])
        self.cell = FullStage(config)
        apply_norm(self.cell, "weight_norm")
        self.deq = get_deq(core="sliced", **deq)
        self.increase = nn.ModuleList([Bottleneck(a, h), Bottleneck(b, k)])
        self.down = conv_bn(4 * h, 4 * k, 3, stride=2, bias=True)
        self.final = conv_bn(4 * k, config.final_channels, 1, bias=True)
        self.classifier = nn.Linear(config.final_channels, config.n_classes)

    def forward(self, x, y):
        """The mean cross entropy, and the state."""
        reset_norm(self.cell)
        for unit in self.stem:
            x = functional.relu(unit(x))
        batch, _, height, width = x.shape
        u = [x, torch.zeros(batch, self.coarse, height // 2, width // 2)]
        states, _ = self.deq(lambda *z: self.cell(z, u), [torch.zeros_like(ui) for ui in u])
        fine, coarse = states[-1]
        out = self.increase[1](coarse) + functional.relu(self.down(self.increase[0](fine)))
        out = functional.relu(self.final(out)).mean((2, 3))
        return functional.cross_entropy(self.classifier(out), y), states[-1]
