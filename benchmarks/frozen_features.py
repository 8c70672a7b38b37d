"""A training step on images and one on features that are kept, as parts, taking turns in one run.

    python -m benchmarks.frozen_features

MobileNet-V2 at 257 pixels as in the family ``mobilenetv2``, four episodes of one shot, random weights and images.
Seconds of computing of all threads, medians: other work on the machine changes them little. One core of an Intel Xeon
with AVX-512, torch 2.14, native operators:

    seconds of a step                    all  features   forward  backward    update
    images                             1.169     0.374     0.458     0.330     0.007
    views, computed and stored         1.207     0.419     0.462     0.319     0.007
    views, stored before               0.796     0.011     0.453     0.325     0.007

Expected was that features are half of a step on images. While backward recomputed the layers of the transformer, a step
on images took 1.61 and one on stored views 1.21, at a busier time.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from engine.evaluate import batch_logits
from engine.optimizers import Optimizers, build_optimizers
from episodes.episode import EpisodeKey
from episodes.fixed_views import FeatureBatches, FixedViews, ViewedTask
from episodes.transforms import View
from episodes.view_store import ViewShape, ViewStore
from model import FSSModel
from model.frozen.backbone import Backbone, build_backbone
from model.loss import dice_loss

SIZE, BATCH = 257, 4
PARTS = ("features", "forward", "backward", "update")


class RandomViews(FixedViews):
    """Views of noise with a rectangle as the object."""

    def __init__(self, store: ViewStore) -> None:
        self.store = store

    def __getitem__(self, key: EpisodeKey) -> ViewedTask:
        rows = (2 * key[1], 2 * key[1] + 1)
        views = tuple(self.view(row) if self.store.read(row) is None else None for row in rows)
        return ViewedTask(rows, views, class_id=0, query_index=0)

    def view(self, row: int) -> View:
        image = torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(row))
        mask = torch.zeros(SIZE, SIZE, dtype=torch.int64)
        mask[60:180, 70:190] = 1
        return View(image, mask, torch.zeros(SIZE, SIZE, dtype=torch.bool))


def main() -> None:
    """Print a row for each kind of step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="number of times the kinds take turns")
    rounds = parser.parse_args().rounds
    torch.manual_seed(0)
    backbone = build_backbone("mobilenetv2_100", weights=None, normalize="inception", mid_stages=[-2])
    model = FSSModel(backbone, channels=128, contrast_residual=True).train()
    optimizers = build_optimizers(
        model, base_lr=0.002, momentum=0.9, weight_decay=1e-4, transformer_lr=1e-4, transformer_weight_decay=0.01
    )
    with tempfile.TemporaryDirectory() as folder:
        mid, high = backbone(torch.zeros(1, 3, SIZE, SIZE))
        shape = ViewShape((SIZE, SIZE), (mid.shape[2], mid.shape[3]), mid.shape[1], high.shape[1])
        kinds = batch_kinds(RandomViews(ViewStore.of(Path(folder), shape, {})), backbone)
        seconds: dict[str, list[list[float]]] = {name: [] for name in kinds}
        for _ in range(rounds + 1):
            for name, make_batch in kinds.items():
                seconds[name].append(step_seconds(model, optimizers, make_batch))
    sys.stdout.write(f"torch {torch.__version__}, {torch.get_num_threads()} threads, a view takes ")
    sys.stdout.write(f"{shape.dtype.itemsize / 1e6:.2f} MB\n\n{'seconds of a step':<32}     all")
    sys.stdout.write("".join(f"{part:>10}" for part in PARTS) + "\n")
    for name, rows in seconds.items():
        medians = [statistics.median(part) for part in zip(*rows[1:], strict=True)]  # the first one warms up
        cells = "".join(f"{median:10.3f}" for median in medians)
        sys.stdout.write(f"{name:<32}{sum(medians):8.3f}{cells}\n")


def batch_kinds(views: RandomViews, backbone: Backbone) -> dict[str, Callable[[], dict[str, Any]]]:
    """Functions that return a batch: of images, of views none of which is stored yet, of views that are."""
    unseen = itertools.count(BATCH, BATCH)

    def stored(first: int) -> dict[str, Any]:
        tasks = [views[0, first + i] for i in range(BATCH)]
        return next(iter(FeatureBatches([tasks], views, backbone, torch.device("cpu"))))

    images = torch.stack([views.view(row).image for row in range(2 * BATCH)])
    masks = {name: value for name, value in stored(0).items() if "features" not in name}
    return {
        "images": lambda: {
            **masks, "query_features": backbone(images[:BATCH]), "support_features": backbone(images[BATCH:]),
        },
        "views, computed and stored": lambda: stored(next(unseen)),
        "views, stored before": lambda: stored(0),
    }  # fmt: skip


def step_seconds(model: FSSModel, optimizers: Optimizers, make_batch: Callable[[], dict[str, Any]]) -> list[float]:
    """Seconds of computing, of all threads, for each of ``PARTS``."""
    moments = [time.process_time()]
    batch = make_batch()
    moments.append(time.process_time())
    loss = dice_loss(batch_logits(model, batch, torch.device("cpu")), batch["query_mask"])
    moments.append(time.process_time())
    optimizers.zero_grad()
    loss.backward()
    moments.append(time.process_time())
    optimizers.step()
    moments.append(time.process_time())
    return [end - start for start, end in itertools.pairwise(moments)]


if __name__ == "__main__":
    main()
