"""The two optimizers: SGD for the convolutions, AdamW for the transformer (docs/method.md, section 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

# Names of the modules that make up the transformer.
_TRANSFORMER = ("support_prototypes.", "query_transformer.")


@dataclass
class Optimizers:
    """Both optimizers, stepped and saved together."""

    sgd: torch.optim.SGD
    adamw: torch.optim.AdamW

    @property
    def transformer_lr(self) -> float:
        rate: float = self.adamw.param_groups[0]["lr"]
        return rate

    def set_sgd_lr(self, rate: float) -> None:
        for group in self.sgd.param_groups:
            group["lr"] = rate

    def zero_grad(self) -> None:
        self.sgd.zero_grad(set_to_none=True)
        self.adamw.zero_grad(set_to_none=True)

    def step(self) -> None:
        self.sgd.step()
        self.adamw.step()

    def state_dict(self) -> dict[str, Any]:
        return {"sgd": self.sgd.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sgd.load_state_dict(state["sgd"])
        self.adamw.load_state_dict(state["adamw"])


def build_optimizers(
    model: nn.Module,
    *,
    base_lr: float,
    momentum: float,
    weight_decay: float,
    transformer_lr: float,
    transformer_weight_decay: float,
) -> Optimizers:
    """SGD over every trainable parameter outside the transformer, AdamW over those inside, without decay of biases."""
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    transformer = {name: p for name, p in trainable.items() if name.startswith(_TRANSFORMER)}
    rest = [p for name, p in trainable.items() if name not in transformer]
    groups = [
        {"params": [p for n, p in transformer.items() if "bias" not in n], "weight_decay": transformer_weight_decay},
        {"params": [p for n, p in transformer.items() if "bias" in n], "weight_decay": 0.0},
    ]
    return Optimizers(
        sgd=torch.optim.SGD(rest, lr=base_lr, momentum=momentum, weight_decay=weight_decay),
        adamw=torch.optim.AdamW(groups, lr=transformer_lr),
    )
