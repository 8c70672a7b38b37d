"""1x1 convolutions and linear layers over maps, by the fastest routine for them on a CPU.

oneDNN's convolution takes half the time of the matrix product behind ``F.linear`` where that product leaves half of the
vector width unused, and the same time elsewhere. On a single thread PyTorch passes a 1x1 convolution to oneDNN only if
it is dilated, which makes no difference to a 1x1 kernel. So on a CPU all of these are dilated 1x1 convolutions.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class PointwiseConvolution(nn.Conv2d):
    """A 1x1 convolution: (B, C, h, w) -> (B, channels, h, w)."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = False) -> None:
        super().__init__(inputs, outputs, 1, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        return convolve(features, self.weight, self.bias)


class PointwiseLinear(nn.Linear):
    """A linear layer over positions: (B, L, C) -> (B, L, channels)."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def convolve(features: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """features (B, C, h, w), kernel (channels, C, 1, 1) -> (B, channels, h, w)"""
    return F.conv2d(features, kernel, bias, dilation=2 if features.device.type == "cpu" else 1)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (B, L, C), weight (channels, C) -> (B, L, channels)"""
    if x.device.type != "cpu":
        return F.linear(x, weight, bias)
    kernel = weight[:, None, None].permute(0, 3, 1, 2)  # (channels, C, 1, 1) in channels-last memory
    image = x[:, None].permute(0, 3, 1, 2)  # (B, C, 1, L)
    return convolve(image, kernel, bias).permute(0, 2, 3, 1).squeeze(1)


def use_pointwise_convolutions(network: nn.Module) -> None:
    """Let the 1x1 convolutions of ``network`` choose their routine as ``PointwiseConvolution`` does, in place."""
    for name, module in list(network.named_modules()):
        plain = type(module) is nn.Conv2d and module.groups == 1 and module.stride == (1, 1)
        if plain and module.kernel_size == (1, 1) and module.padding == (0, 0):
            chosen = PointwiseConvolution(module.in_channels, module.out_channels, bias=module.bias is not None)
            chosen.load_state_dict(module.state_dict())
            network.set_submodule(name, chosen.requires_grad_(False).to(module.weight.dtype))
