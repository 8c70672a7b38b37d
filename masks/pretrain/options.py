"""What pretraining can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["auto", "bf16", "fp32"]


@dataclass(frozen=True)
class Settings:
    """Everything that the weights depend on, apart from the images and the number of processes.

    ``batch`` counts the images of all processes. ``precision`` is that of the encoders: bf16 on a GPU and fp32 on a CPU
    where it is auto.
    """

    model: str = "mobilenetv2_050"
    epochs: int = 200
    batch: int = 64
    size: int = 96
    queue: int = 4096
    lr: float = 0.06
    seed: int = 0
    precision: Precision = "auto"
