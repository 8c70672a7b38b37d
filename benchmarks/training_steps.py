"""A training step of the family mobilenetv2 (257 pixels, batch 4, one shot) by precision, compilation and parts.

    python -m benchmarks.training_steps [--rounds 5]

Medians; "first" is the first step, which compiles. Memory: the highest of the process, less what it had before. One
thread of a busy Intel Xeon with AMX, torch 2.14: seconds say little there, CPU seconds more.

                      seconds    CPU s    first     memory
    float32              2.98     1.36      4.6    463 MiB
    bf16                 3.03     1.17      3.4    338 MiB
    compiled             4.17     1.59    315.0    639 MiB
    2 parts              4.25     1.72      4.7    294 MiB
    4 parts              7.32     2.24      5.4    217 MiB

Expected were 0.8 CPU s for bf16 and a tenth less for compiled code: most of a step is native operators, sums that stay
in float32, and convolutions over few channels. Compiled and in bf16 was not measured, nor anything on a GPU.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import statistics
import subprocess
import sys
import time

import torch

from engine.compilation import compiled
from engine.epoch import Computation, train_one_epoch
from engine.epoch_report import EpochReport
from engine.optimizers import build_optimizers
from model import FSSModel
from model.fss_network import NetworkSettings
from model.loss import dice_loss
from util.config import load_config

SIDE = 257
VARIANTS: dict[str, list[str]] = {
    "float32": [],
    "bf16": ["TRAIN.precision=bf16"],
    "compiled": ["TRAIN.compile=true"],
    "compiled, bf16": ["TRAIN.compile=true", "TRAIN.precision=bf16"],
    "2 parts": ["TRAIN.accumulate=2"],
    "4 parts": ["TRAIN.accumulate=4"],
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="steps of each variant that are measured")
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant:
        print_variant(arguments.variant, arguments.rounds)
        return
    print(f"torch {torch.__version__}\n{'':16s} {'seconds':>8s} {'CPU s':>8s} {'first':>8s} {'memory':>10s}")
    for name in VARIANTS:
        command = [
            sys.executable,
            "-m",
            "benchmarks.training_steps",
            "--variant",
            name,
            "--rounds",
            str(arguments.rounds),
        ]
        subprocess.run(command, check=True)


def print_variant(name: str, rounds: int) -> None:
    """One line: seconds and CPU seconds of a step, seconds of the first, MiB."""
    settings = load_config("shapes", "ssl_mobilenetv2", ["TRAIN.backbone_weights=", *VARIANTS[name]]).TRAIN
    torch.manual_seed(0)
    model = FSSModel.from_settings(NetworkSettings.configured(settings), backbone_weights=None)
    optimizers = build_optimizers(
        model, base_lr=0.002, momentum=0.9, weight_decay=1e-4, transformer_lr=1e-4, transformer_weight_decay=0.01
    )
    clock: list[tuple[float, float]] = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def note_time() -> None:
        clock.append((time.perf_counter(), time.process_time()))

    note_time()
    train_one_epoch(
        compiled(model) if settings.compile else model,
        [make_batch()] * (rounds + 2),
        EpochReport(1, rounds + 2),
        loss=dice_loss,
        optimizers=optimizers,
        sgd_lr=lambda _: 0.001,
        computation=Computation(torch.device("cpu"), settings.accumulate, settings.precision == "bf16"),
        print_freq=rounds + 2,
        after_step=note_time,
    )
    (first, _), *_ = steps = [(b - a, d - c) for (a, c), (b, d) in itertools.pairwise(clock)]
    seconds, computing = (statistics.median(values) for values in zip(*steps[2:], strict=True))
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{name:16s} {seconds:8.2f} {computing:8.2f} {first:8.1f} {memory:6.0f} MiB", flush=True)


def make_batch() -> dict[str, torch.Tensor]:
    """Four episodes of noise, with an object on 17 % of each image."""
    masks = torch.zeros(4, 1, SIDE, SIDE, dtype=torch.int64)
    masks[..., 60:166, 60:166] = 1
    padding = torch.zeros(4, 1, SIDE, SIDE, dtype=torch.bool)
    return {
        "query_image": torch.randn(4, 3, SIDE, SIDE),
        "query_mask": masks[:, 0],
        "query_padding": padding[:, 0],
        "support_images": torch.randn(4, 1, 3, SIDE, SIDE),
        "support_masks": masks,
        "support_padding": padding,
        "class_id": torch.arange(4),
    }


if __name__ == "__main__":
    main()
