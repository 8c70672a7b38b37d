"""The Dice loss against golden values and cases with a known answer."""

import pytest
import torch

from model.loss import dice_loss
from tests import golden


@pytest.mark.parametrize("case", ["b1", "b3"])
def test_published_behaviour_matches_golden(case: str) -> None:
    values = golden.load("dice_loss")[case]
    logits = values["pred"].requires_grad_()
    loss = dice_loss(logits, values["target"], ignore_index=None)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(values["loss"], rel=1e-5)
    assert golden.relative_error(logits.grad, values["grad"]) < 1e-5


def test_certain_and_right_is_zero_certain_and_wrong_is_two() -> None:
    target = torch.tensor([[[0, 1], [1, 0]]])
    logits = 100.0 * torch.stack([1 - 2 * target, 2 * target - 1], dim=1)
    assert float(dice_loss(logits, target)) == pytest.approx(0, abs=1e-6)
    assert float(dice_loss(-logits, target)) == pytest.approx(2, abs=1e-6)


def test_void_pixels_change_nothing_unless_published() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 2, 8, 8)
    target = torch.randint(0, 2, (2, 8, 8))
    target[:, :3] = 255
    changed = logits.clone()
    changed[:, :, :3] += 5
    assert torch.equal(dice_loss(logits, target), dice_loss(changed, target))
    assert not torch.equal(dice_loss(logits, target, None), dice_loss(changed, target, None))
    assert torch.allclose(dice_loss(logits, target), dice_loss(logits[:, :, 3:], target[:, 3:], None))
