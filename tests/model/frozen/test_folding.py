"""Folded batch norm changes nothing but the number of operations."""

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from model.frozen.folding import fold_batch_norm
from tests import golden


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, _BatchNorm) for module in network.modules())


def shake(network: nn.Module) -> None:
    """Give every batch norm statistics and weights of its own."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias)


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("resnet18", 0),
        ("resnet50d", 0),  # average pooling that looks at the size of its input
        ("mobilenetv2_035", 0),  # batch norm and activation in one module
        ("tf_efficientnet_b0", 0),  # padding as in TensorFlow
        ("test_resnet", 0),
        ("resnetv2_50", 16),  # normalisation before the convolution
        ("test_convnext", 0),  # no batch norm
    ],
)
def test_features_stay_the_same(name: str, left: int) -> None:
    network = timm.create_model(name, features_only=True, output_stride=8).eval().requires_grad_(False)
    shake(network)
    images = torch.randn(2, 3, 65, 49)
    before = network(images)
    fold_batch_norm(network)
    assert norms(network) == left
    for theirs, ours in zip(before, network(images), strict=True):
        assert golden.relative_error(ours, theirs) < 1e-5


class Forked(nn.Module):
    """A convolution whose output is used twice, and one that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.first_norm, self.second_norm = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        forked = self.first(x)
        x = forked + self.first_norm(forked)
        return self.second_norm(self.second(self.second(x)))


def test_convolutions_that_serve_others_too_are_left_alone() -> None:
    network = Forked().eval().requires_grad_(False)
    shake(network)
    images = torch.randn(1, 3, 5, 5)
    before = network(images)
    fold_batch_norm(network)
    assert norms(network) == 2
    assert torch.equal(network(images), before)


class Undecided(nn.Module):
    """Cannot be traced: where it goes depends on what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.convolution(x)) if x.sum() > 0 else x


def test_a_network_that_cannot_be_traced_is_left_alone() -> None:
    network = Undecided().eval()
    fold_batch_norm(network)
    assert norms(network) == 1
