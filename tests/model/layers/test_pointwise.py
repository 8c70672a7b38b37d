"""Pointwise layers are what they are named after, with one thread and with two, forward and backward."""

from collections.abc import Iterator

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.layers.pointwise import PointwiseConvolution, PointwiseLinear, linear, use_pointwise_convolutions


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(1)


def gradients(output: Tensor, layer: nn.Module, x: Tensor) -> list[Tensor]:
    weights = torch.linspace(-1, 1, output.numel()).view(output.shape)
    return list(torch.autograd.grad((output * weights).sum(), [x, *layer.parameters()]))


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer(bias: bool) -> None:
    torch.manual_seed(0)
    layer, x = PointwiseLinear(7, 5, bias=bias), torch.randn(2, 6, 7, requires_grad=True)
    expected = F.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), expected)
    for ours, theirs in zip(gradients(layer(x), layer, x), gradients(expected, layer, x), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.usefixtures("threads")
def test_a_convolution() -> None:
    torch.manual_seed(0)
    layer, x = PointwiseConvolution(7, 5, bias=True), torch.randn(2, 7, 3, 4, requires_grad=True)
    expected = F.conv2d(x, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), expected)
    for ours, theirs in zip(gradients(layer(x), layer, x), gradients(expected, layer, x), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_and_slices_of_larger_tensors(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(3, 8, 9).to(dtype)[:, ::2, 1:], torch.randn(10, 16).to(dtype)[::2, 8:]
    torch.testing.assert_close(linear(x, weight), F.linear(x, weight), atol=1e-2, rtol=1e-2)


def test_nothing_in_nothing_out() -> None:
    assert linear(torch.zeros(0, 4, 3), torch.zeros(2, 3)).shape == (0, 4, 2)


def test_every_plain_1x1_convolution_of_a_network_is_replaced_and_no_other() -> None:
    network = timm.create_model("mobilenetv2_035").eval().requires_grad_(False)
    images, before = torch.randn(2, 3, 33, 33), network.state_dict()
    expected = network(images)
    others = sum(isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) for module in network.modules())
    use_pointwise_convolutions(network)
    kinds = [type(module) for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert kinds.count(nn.Conv2d) == others
    assert kinds.count(PointwiseConvolution) == len(kinds) - others > 30
    assert network.state_dict().keys() == before.keys()
    torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-5)
