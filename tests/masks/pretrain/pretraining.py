"""Small pretraining runs for the tests, in this process or in processes of their own.

python -m tests.masks.pretrain.pretraining IMAGES OUT [--kill RANK:STEP] [--without_batch_norm OUT]
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

import masks.pretrain.__main__
import masks.pretrain.training
from masks.pretrain.moco import Encoder, MoCo
from masks.pretrain.options import Settings
from masks.pretrain.run_state import PretrainFiles
from masks.pretrain.training import pretrain
from masks.pretrain.unlabelled_images import find_images
from util.distributed import rank
from util.images import write_image
from util.logging import start_logging
from util.processes import process_group

TINY = Settings(epochs=2, batch=4, size=32, queue=4, lr=0.01, seed=5)
# Nine images make two batches of four an epoch; the second epoch's last step is the fourth.
LAST_STEP = 3


class SmallBackbone(nn.Module):
    """Three maps of 4, 5 and 6 channels."""

    def __init__(self, batch_norm: bool = True) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels + 1, 3, stride=2),
                nn.BatchNorm2d(channels + 1) if batch_norm else nn.Tanh(),
            )
            for channels in (3, 4, 5)
        )

    def forward(self, pixels: Tensor) -> list[Tensor]:
        maps = []
        for layer in self.layers:
            pixels = layer(pixels)
            maps.append(pixels)
        return maps


def build_without_batch_norm(settings: Settings, images: int) -> MoCo:
    """In place of ``masks.pretrain.training._build``: what each image gives depends on no other image of the batch."""
    encoder = Encoder(SmallBackbone(batch_norm=False), channels=[4, 5, 6], embedding=5)
    encoder.head = nn.Sequential(nn.Linear(15, 5))
    return MoCo(encoder, queue=settings.queue, momentum=0.9, temperature=0.2)


def draw_images(folder: Path) -> Path:
    """Nine images in a folder and a folder below it."""
    random = np.random.default_rng(0)
    for index in range(9):
        image = np.full((50, 60, 3), random.integers(256, size=3), dtype=np.uint8)
        image[10:30, 5 * index : 5 * index + 15] = random.integers(256, size=3)
        write_image(folder / ("deeper" if index % 2 else "") / f"{index}.png", image)
    return folder


def start(command_line: Sequence[str | Path], log: Path, *, processes: int = 1) -> int:
    """Run ``main`` with ``command_line`` in a process of its own, or under torchrun in several; returns the exit code.

    All are forked, which spares them the imports. What they write on stderr goes to ``log``.
    """
    process = multiprocessing.get_context("fork").Process(
        target=_run, args=(list(map(str, command_line)), log, processes)
    )
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _run(command_line: list[str], log: Path, processes: int) -> None:
    with log.open("w") as stream:
        os.dup2(stream.fileno(), 2)
    sys.stderr = open(2, "w", closefd=False)  # in place of the one that pytest captures
    if processes == 1:
        main(command_line)
        return
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        start_method="fork",
        max_restarts=0,
    )
    elastic_launch(config, main)(command_line)


def run(folder: Path, out: Path, settings: Settings = TINY, workers: int = 0) -> dict[str, Tensor]:
    """The backbone that is made of a folder of images."""
    pretrain(find_images(folder, None), out, settings, workers=workers)
    return safetensors.torch.load_file(out)


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether two networks have the same tensors to the bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def digest(moco: MoCo) -> str:
    """SHA-256 (hex) of all parameters and buffers."""
    values = [tensor.contiguous().numpy().tobytes() for tensor in moco.state_dict().values()]
    return hashlib.sha256(b"".join(values)).hexdigest()


def main(arguments: list[str]) -> None:
    """IMAGES OUT [--kill RANK] [--without_batch_norm OUT]: each process leaves its network's digest as OUT.RANK."""
    parser = argparse.ArgumentParser()
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kill", type=int)
    parser.add_argument("--without_batch_norm", type=Path)
    parsed = parser.parse_args(arguments)
    torch.set_num_threads(1)
    start_logging()
    with process_group():
        if parsed.kill == rank():
            _kill_before(LAST_STEP)
        _leave_digests(parsed.out)
        paths = find_images(parsed.images, None)
        pretrain(paths, parsed.out, TINY, workers=1)
        if parsed.without_batch_norm:
            masks.pretrain.training._build = build_without_batch_norm
            pretrain(paths, parsed.without_batch_norm, TINY, workers=0)


def _kill_before(last: int) -> None:
    """SIGKILL to this process when step ``last`` of the run (from 0) begins."""
    train_step, steps = masks.pretrain.training._train_step, iter(range(last + 1))

    def killed(*arguments: Any) -> tuple[float, float]:
        if next(steps) == last:
            print("killed before its last step", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return train_step(*arguments)

    masks.pretrain.training._train_step = killed  # type: ignore[assignment]


def _leave_digests(out: Path) -> None:
    save_state = PretrainFiles.save_state

    def saved(files: PretrainFiles, moco: MoCo, *arguments: Any, **named: Any) -> None:
        save_state(files, moco, *arguments, **named)
        Path(f"{out}.{rank()}").write_text(digest(moco))

    PretrainFiles.save_state = saved  # type: ignore[assignment, method-assign]
