"""The two optimizers: SGD for the convolutions, AdamW for the transformer (docs/method.md, section 9)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from util.errors import UserError

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

    def parameters(self) -> Iterator[nn.Parameter]:
        """All that are trained, in a fixed order."""
        for group in (*self.sgd.param_groups, *self.adamw.param_groups):
            yield from group["params"]

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

    def load_stored(self, state: Mapping[str, Any], source: Path) -> None:
        """Load what ``state_dict`` returned; raises ``UserError``, which names ``source``, for anything else."""
        optimizers: dict[str, torch.optim.Optimizer] = {"sgd": self.sgd, "adamw": self.adamw}
        for name, optimizer in optimizers.items():
            problem = _misfit(optimizer, state.get(name))
            if problem is not None:
                raise UserError(
                    f"{source}: cannot be continued, its state of {name} {problem}; "
                    f"start a run from its weights with TRAIN.weight={source}"
                )
            optimizer.load_state_dict(state[name])


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


def _misfit(optimizer: torch.optim.Optimizer, state: Any) -> str | None:
    """What is wrong with a stored state of ``optimizer``, as a phrase; None for nothing.

    torch itself takes a state that lacks some of the averages, and starts them anew.
    """
    match state:
        case {"state": Mapping() as stored, "param_groups": list() as groups}:
            pass
        case _:
            return "is missing or incomplete"
    expected = optimizer.state_dict()["param_groups"]
    if len(groups) != len(expected) or not all(map(_same_group, groups, expected)):
        return "is of other parameters"
    for group, indices in zip(optimizer.param_groups, (group["params"] for group in expected), strict=True):
        names = ("exp_avg", "exp_avg_sq") if isinstance(optimizer, torch.optim.AdamW) else ("momentum_buffer",)
        if group.get("momentum") == 0:
            continue
        if not all(_has_averages(names, p, stored.get(i)) for p, i in zip(group["params"], indices, strict=True)):
            return "lacks averages of parameters, or has them in another shape"
    return None


def _same_group(stored: Any, expected: dict[str, Any]) -> bool:
    return (
        isinstance(stored, dict)
        and stored.get("params") == expected["params"]
        and all(type(stored.get(name)) is type(value) for name, value in expected.items())
    )


def _has_averages(names: Sequence[str], parameter: Tensor, stored: Any) -> bool:
    averages = [stored.get(name) for name in names] if isinstance(stored, dict) else [None]
    return all(
        isinstance(average, Tensor) and average.shape == parameter.shape and bool(average.isfinite().all())
        for average in averages
    )
