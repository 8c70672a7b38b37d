"""The cache of frozen features of fixed views: from a configuration to the views that it trains on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from episodes.build import TrainingEpisodes
from episodes.fixed_views import FixedViews
from episodes.view_store import ViewShape, ViewStore, stored_bytes
from util.config import Config
from util.errors import UserError
from util.files import cache_folder, digest_lines
from util.logging import logger
from util.tensor_files import digest_tensors

_VERSION = 1  # of the augmentation in episodes.transforms; views of another one are made again
_GB = 10**9


def fixed_views(
    config: Config,
    episodes: TrainingEpisodes,
    training_data: Mapping[str, str],
    backbone: nn.Module,
    device: torch.device,
    *,
    left: int,
) -> FixedViews:
    """``TRAIN.views`` views of each object of ``episodes``, of which ``left`` are still to be trained on.

    They are kept in the cache's folder, under a name that stands for all that they depend on. Raises ``UserError``
    where they could take more space than ``TRAIN.views_gb``.
    """
    train = config.TRAIN
    parent, shape = cache_folder() / "views", _view_shape(backbone, train.train_h, train.train_w, device)
    store = ViewStore.of(parent, shape, _settings(config, episodes, training_data, backbone, device))
    _check_space(config, store, episodes.objects, needed=left * (1 + train.shot))
    store.make()
    logger.info("features of %d views of each object are kept in %s", train.views, store.folder)
    return FixedViews(episodes, train.views, store)


def _view_shape(backbone: nn.Module, height: int, width: int, device: torch.device) -> ViewShape:
    mid, high = backbone(torch.zeros(1, 3, height, width, device=device))
    return ViewShape((height, width), (mid.shape[2], mid.shape[3]), mid.shape[1], high.shape[1])


def _settings(
    config: Config,
    episodes: TrainingEpisodes,
    training_data: Mapping[str, str],
    backbone: nn.Module,
    device: torch.device,
) -> dict[str, Any]:
    """All that the bytes of the views depend on, as JSON values."""
    train, objects = config.TRAIN, [episodes.example(number) for number in range(episodes.objects)]
    images = sorted({example.image for example in objects})
    state = {name: tensor.detach().cpu() for name, tensor in (*backbone.named_parameters(), *backbone.named_buffers())}
    return {
        "version": _VERSION,
        "objects": digest_lines(f"{example.image.stem} {example.object_id}" for example in objects),
        "training_data": dict(training_data),
        "file_sizes": digest_lines(f"{image.stem} {image.stat().st_size}" for image in images),
        "transform": vars(episodes.transform),
        "backbone": [train.backbone, train.mid_stages, train.high_stage, digest_tensors(state)],
        "computed_with": [
            *(torch.__version__, device.type, torch.backends.cpu.get_cpu_capability(), torch.get_num_threads())
        ],
    }


def _check_space(config: Config, store: ViewStore, objects: int, *, needed: int) -> None:
    """Raise ``UserError`` where all stores, with ``needed`` further views, could come to more space than allowed."""
    views, most, parent = config.TRAIN.views, config.TRAIN.views_gb, store.folder.parent
    bytes_each = objects * store.row_bytes
    missing = max(views * bytes_each - stored_bytes(parent, store.folder.name), 0)
    stored = stored_bytes(parent)
    total = (stored + min(needed * store.row_bytes, missing)) / _GB
    if total <= most:
        return
    fitting = int((most * _GB - stored) // bytes_each)
    fewer = f" or TRAIN.views={fitting}" if fitting > 0 else ""
    raise UserError(
        f"{parent}: it could come to {total:.2f} GB with TRAIN.views={views}, at most TRAIN.views_gb={most:g} "
        f"expected; set TRAIN.views_gb={math.ceil(total)}{fewer}, or delete the folder"
    )
