"""Folding frozen batch norm into the preceding convolutions: the same function with fewer passes over memory."""

from __future__ import annotations

import torch
from torch import fx, nn
from torch.fx.proxy import TraceError
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def fold_batch_norm(network: nn.Module) -> None:
    """Fold every batch norm that is the only user of a convolution into that convolution, in place.

    The order of modules is read from a trace of the forward pass, not from names. A network whose forward pass depends
    on the values of its input cannot be traced and stays as it is, as do batch norms that follow something else.
    """
    modules = dict(network.named_modules())
    for convolution, norm in _pairs(network, modules):
        _fold(modules[convolution], modules[norm])
        # timm's batch norms may hold the activation that follows.
        network.set_submodule(norm, getattr(modules[norm], "act", nn.Identity()))


class _Tracer(fx.Tracer):
    """Does not trace into batch norms, convolutions and pooling, including timm's variants of them."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        leaves = (_BatchNorm, nn.Conv2d, nn.AvgPool2d, nn.MaxPool2d)
        return isinstance(m, leaves) or super().is_leaf_module(m, module_qualified_name)


def _pairs(network: nn.Module, modules: dict[str, nn.Module]) -> list[tuple[str, str]]:
    """Names of convolutions and of the batch norms that are the only users of their outputs."""
    if not any(isinstance(module, _BatchNorm) for module in modules.values()):
        return []
    try:
        graph = _Tracer().trace(network)
    except TraceError:
        return []
    calls = [node for node in graph.nodes if node.op == "call_module"]
    pairs = []
    for node in calls:
        source = node.args[0]
        if not isinstance(modules[str(node.target)], _BatchNorm) or not isinstance(source, fx.Node):
            continue
        convolution = modules.get(str(source.target)) if source.op == "call_module" else None
        called_once = all(sum(call.target == name for call in calls) == 1 for name in (node.target, source.target))
        if isinstance(convolution, nn.Conv2d) and len(source.users) == 1 and called_once:
            pairs.append((str(source.target), str(node.target)))
    return pairs


def _fold(convolution: nn.Module, norm: nn.Module) -> None:
    """weight * g and bias * g + (b - m * g) with g = norm weight / sqrt(variance + eps), computed in float64."""
    assert isinstance(convolution, nn.Conv2d) and isinstance(norm, _BatchNorm)
    assert norm.running_mean is not None and norm.running_var is not None
    gain = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        gain = gain * norm.weight.double()
    shift = -norm.running_mean.double() * gain
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    if convolution.bias is not None:
        shift = shift + convolution.bias.double() * gain
    weight = convolution.weight
    folded = (weight.double() * gain.view(-1, 1, 1, 1)).to(weight.dtype)
    convolution.weight = nn.Parameter(folded, requires_grad=False)
    convolution.bias = nn.Parameter(shift.to(weight.dtype), requires_grad=False)
