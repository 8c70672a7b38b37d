"""Compiling a network (``torch.compile``)."""

from __future__ import annotations

import torch
from torch import nn


def compiled(model: nn.Module) -> nn.Module:
    """A module with the parameters and the random draws of ``model``, compiled when it is first called.

    Compilation takes a minute or more, and on a CPU a C++ compiler.
    """
    # Dropout draws what it draws without compilation, so that a run may be continued either way.
    torch._inductor.config.fallback_random = True
    module = torch.compile(model)
    assert isinstance(module, nn.Module)
    return module
