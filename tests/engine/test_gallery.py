"""Which episodes come onto the sheets of a test."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.gallery import Gallery
from engine.metrics import Areas, EpisodeScore


def fill(gallery: Gallery, overlaps: list[int], queries: list[int]) -> None:
    """Episodes with an IoU of ``overlap`` in 10."""
    for number, (overlap, query) in enumerate(zip(overlaps, queries, strict=True)):
        batch = {
            "query_index": torch.tensor([query]),
            "class_id": torch.tensor([1]),
            "support_images": torch.zeros(1, 1, 3, 4, 4),
            "support_masks": torch.zeros(1, 1, 4, 4, dtype=torch.int64),
            "support_padding": torch.arange(4).expand(1, 1, 4, 4) == 3,
            "original_mask": [torch.zeros(4, 4, dtype=torch.int64)],
        }
        score = EpisodeScore(1, str(query), Areas(overlap, overlap, 10, 16))
        gallery.add(number, batch, 0, torch.zeros(4, 4, dtype=torch.int64), score)


def grey(query: int) -> np.ndarray:
    return np.full((4, 4, 3), query, dtype=np.uint8)


def test_examples_lie_at_even_distances() -> None:
    gallery = Gallery(2, 6, grey)
    fill(gallery, [5] * 6, list(range(6)))
    assert [row.pictures[1][0, 0, 0] for row in gallery.examples.values()] == [0, 3]


def test_the_worst_are_those_of_lowest_iou_one_for_each_image(tmp_path: Path) -> None:
    gallery = Gallery(2, 6, grey)
    fill(gallery, [5, 3, 1, 2, 0, 4], [0, 1, 2, 2, 2, 5])
    assert {query: round(failure.iou, 1) for query, failure in gallery.worst.items()} == {"2": 0.0, "1": 0.3}
    gallery.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"examples.png", "worst.png"}


def test_typical_examples_come_first_and_rows_say_what_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheets: list[list[list[str]]] = []

    def noted(rows: object, titles: object, cell: int, captions: list[list[str]]) -> np.ndarray:
        sheets.append(captions)
        return np.zeros((1, 1, 3), dtype=np.uint8)

    monkeypatch.setattr("engine.gallery.contact_sheet", noted)
    gallery = Gallery(3, 3, grey, {1: "bird"})
    fill(gallery, [1, 9, 4], [0, 1, 2])
    gallery.save(tmp_path)
    assert sheets[0] == [
        [f"IoU {iou}0.0 %, class 1 bird, {query}, episode {query}"] for iou, query in ((4, 2), (1, 0), (9, 1))
    ]
    assert [caption[:8] for [caption] in sheets[1]] == ["IoU 10.0", "IoU 40.0", "IoU 90.0"]


def test_bars_of_the_letterbox_are_cut_off() -> None:
    gallery = Gallery(1, 1, grey)
    fill(gallery, [5], [0])
    assert [picture.shape for picture in gallery.examples[0].pictures] == [(4, 3, 3), *[(4, 4, 3)] * 3]


def test_no_pictures_no_files(tmp_path: Path) -> None:
    gallery = Gallery(0, 6, grey)
    fill(gallery, [5, 0], [0, 1])
    gallery.save(tmp_path)
    assert not any(tmp_path.iterdir())
