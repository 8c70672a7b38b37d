"""Which episodes come onto the sheets of a test."""

from pathlib import Path

import numpy as np
import torch

from engine.gallery import Gallery
from engine.metrics import Areas, EpisodeScore


def fill(gallery: Gallery, overlaps: list[int], queries: list[int]) -> None:
    """Episodes with an IoU of ``overlap`` in 10."""
    for number, (overlap, query) in enumerate(zip(overlaps, queries, strict=True)):
        batch = {
            "query_index": torch.tensor([query]),
            "support_images": torch.zeros(1, 1, 3, 4, 4),
            "support_masks": torch.zeros(1, 1, 4, 4, dtype=torch.int64),
            "original_mask": [torch.zeros(4, 4, dtype=torch.int64)],
        }
        score = EpisodeScore(1, str(query), Areas(overlap, overlap, 10, 16))
        gallery.add(number, batch, 0, torch.zeros(4, 4, dtype=torch.int64), score)


def grey(query: int) -> np.ndarray:
    return np.full((4, 4, 3), query, dtype=np.uint8)


def test_examples_lie_at_even_distances() -> None:
    gallery = Gallery(2, 6, grey)
    fill(gallery, [5] * 6, list(range(6)))
    assert [row[1][0, 0, 0] for row in gallery.examples.values()] == [0, 3]


def test_the_worst_are_those_of_lowest_iou_one_for_each_image(tmp_path: Path) -> None:
    gallery = Gallery(2, 6, grey)
    fill(gallery, [5, 3, 1, 2, 0, 4], [0, 1, 2, 2, 2, 5])
    assert {query: round(failure.iou, 1) for query, failure in gallery.worst.items()} == {"2": 0.0, "1": 0.3}
    gallery.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"examples.png", "worst.png"}


def test_no_pictures_no_files(tmp_path: Path) -> None:
    gallery = Gallery(0, 6, grey)
    fill(gallery, [5, 0], [0, 1])
    gallery.save(tmp_path)
    assert not any(tmp_path.iterdir())
