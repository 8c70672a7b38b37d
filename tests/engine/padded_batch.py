"""A batch of a test as the network sees it, with a padded query, for the tests of single episodes."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from episodes.transforms import content_size
from tests.model.networks import random_episode

SIZE = partial(content_size, size=65)


def batch_of(shots: int = 1) -> dict[str, Any]:
    """Two episodes; the queries were 60 x 45, so that a quarter of the input is padding."""
    query, supports, masks = random_episode(shots=shots)
    padding = torch.zeros(2, 65, 65, dtype=torch.bool)
    padding[:, :, SIZE(60, 45)[1] :] = True
    truth = torch.zeros(60, 45, dtype=torch.int64)
    truth[10:30, 10:30] = 1
    return {
        "query_image": query, "query_padding": padding, "support_images": supports, "support_masks": masks,
        "support_padding": padding[:, None].expand(2, shots, 65, 65), "class_id": torch.tensor([3, 4]),
        "query_index": torch.tensor([8, 9]), "original_mask": [truth, truth],
        "original_image": [torch.zeros(60, 45, 3, dtype=torch.uint8)] * 2,
    }  # fmt: skip
