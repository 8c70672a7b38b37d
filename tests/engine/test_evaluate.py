"""Predictions at the original size, and the log of a collapse."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engine.evaluate import evaluate, object_probability, to_original
from episodes.transforms import content_size


def test_content_is_cropped_before_it_is_resized() -> None:
    # 500 x 375 in a square of 473: content 472 x 352. Object: the lower half of the content.
    logits = torch.zeros(2, 473, 473)
    logits[1, 236:472, :352] = 1
    logits[0, :236, :352] = 1
    logits[1, 472:], logits[1, :, 352:] = 9, 9  # padding, must not leak in
    prediction = to_original(logits, (500, 375), partial(content_size, size=473)).argmax(0)
    assert prediction.shape == (500, 375)
    assert prediction[:249].sum() == 0
    assert prediction[251:].all()


def test_published_rule_stretches_the_square() -> None:
    logits = torch.randn(2, 41, 41)
    ours = to_original(logits, (60, 45), None)
    square = nn.functional.interpolate(logits[None], (60, 60), mode="bilinear", align_corners=True)[0]
    assert torch.equal(ours, square[:, :, :45])


def test_a_refinement_sees_the_image_as_it_was_read_and_its_result_gets_the_own_size() -> None:
    """An image of 60 x 44 that was read at half of its size, in a square of 33; the refinement inverts the object."""
    logits = torch.randn(2, 33, 33)
    seen = []

    def inverted(difference: np.ndarray, image: np.ndarray) -> np.ndarray:
        seen.append((difference.shape, image.shape))
        return 1 / (1 + np.exp(difference))

    size, content = (60, 44), partial(content_size, size=33)
    image = torch.zeros(30, 22, 3, dtype=torch.uint8)
    probability = object_probability(logits, size, content, image, inverted)
    assert seen == [((30, 22), (30, 22, 3))] and probability.shape == size
    background, object_ = to_original(logits, (30, 22), content)
    assert torch.allclose(probability[::59, ::43], (background - object_).sigmoid()[::29, ::21])
    plain = object_probability(logits, size, content, None, None)
    assert torch.equal(plain > 0.5, to_original(logits, size, content).argmax(0) == 1)


class Constant(nn.Module):
    """Predicts one class everywhere."""

    def __init__(self, label: int) -> None:
        super().__init__()
        self.label = label

    def forward(self, query_image: Tensor, *_: Tensor) -> Tensor:
        logits = torch.zeros(len(query_image), 2, *query_image.shape[-2:])
        logits[:, self.label] = 1
        return logits


def batch(count: int) -> dict[str, object]:
    masks = torch.zeros(count, 1, 9, 9, dtype=torch.int64)
    return {
        "query_image": torch.zeros(count, 3, 9, 9),
        "support_images": torch.zeros(count, 1, 3, 9, 9),
        "support_masks": masks,
        "query_padding": torch.zeros(count, 9, 9, dtype=torch.bool),
        "support_padding": torch.zeros(count, 1, 9, 9, dtype=torch.bool),
        "class_id": torch.arange(count) + 1,
        "query_index": torch.arange(count),
        "original_mask": [torch.eye(8, dtype=torch.int64) for _ in range(count)],
    }


def run(label: int) -> tuple[float, int]:
    metrics = evaluate(
        Constant(label), [(0, batch(2)), (2, batch(1))], device=torch.device("cpu"), content_size=lambda *_: (8, 8)
    )
    return metrics.miou(), metrics.episodes


def test_everything_foreground_scores_the_object_share() -> None:
    assert run(1) == (pytest.approx(8 / 64), 3)


def test_a_collapse_is_named_in_the_log(messages: list[str]) -> None:
    assert run(0) == (0.0, 3)
    assert messages == ["COLLAPSED: no object pixel in 3 of 3 predictions"]
