"""The noted steps are those of the prediction: they add up to its logits, and noting changes nothing."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model import FSSModel
from model.baselines import Baseline
from model.layers import PrototypeCrossAttention
from model.prediction_steps import Steps, recorded
from tests.model.networks import random_episode, tiny_backbone, tiny_model


def learnt_model(*, contrast_residual: bool) -> FSSModel:
    """A network whose correction is not zero, as before training."""
    model = tiny_model(contrast_residual=contrast_residual)
    (weight, _) = model.classifier[-1].parameters()
    torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(1))
    return model


@torch.inference_mode()
def noted(model: FSSModel, episode: tuple[Tensor, ...]) -> tuple[Tensor, Steps]:
    with recorded(model) as recording:
        logits = model(*episode)
    assert recording.steps is not None
    return logits, recording.steps


@pytest.mark.parametrize("contrast_residual", [False, True])
@pytest.mark.parametrize("shots", [1, 2])
def test_steps_add_up_to_the_logits(contrast_residual: bool, shots: int) -> None:
    model, episode = learnt_model(contrast_residual=contrast_residual), random_episode(shots=shots)
    logits, steps = noted(model, episode)
    difference = steps.correction
    if contrast_residual:
        assert steps.contrast is not None and steps.trusted is not None
        assert ((steps.trusted > 0) & (steps.trusted < 1)).all()
        difference = steps.contrast + steps.trusted[:, None, None] * steps.correction
    else:
        assert steps.contrast is None and steps.trusted is None
    enlarged = F.interpolate(difference[:, None], (65, 65), mode="bilinear", align_corners=True)[:, 0]
    torch.testing.assert_close(enlarged, logits[:, 1] - logits[:, 0], rtol=1e-4, atol=1e-4)


def test_noting_changes_no_bit_and_leaves_no_hook() -> None:
    model, episode = learnt_model(contrast_residual=True), random_episode()
    with torch.inference_mode():
        plain = model(*episode)
    logits, _ = noted(model, episode)
    assert torch.equal(logits, plain)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_slots_are_those_of_the_prototypes() -> None:
    """A prototype is the direction of the mean over the pixels of its slot; object and padding are where they are."""
    model, (query, supports, masks) = learnt_model(contrast_residual=True), random_episode(batch=1, shots=2)
    padding = torch.zeros(1, 2, 65, 65, dtype=torch.bool)
    padding[:, :, 50:] = True
    merged: list[Tensor] = []
    hook = model.support_prototypes.layers[-1].register_forward_hook(lambda *call: merged.append(call[-1]))
    _, steps = noted(model, (query, supports, masks, torch.zeros(1, 65, 65, dtype=torch.bool), padding))
    hook.remove()
    with torch.inference_mode():
        described = model.describe_supports(supports, masks, padding)
    assert steps.slots.shape == (1, 2, 9, 9)
    assert torch.equal(steps.slots == -1, described.features.padding)
    objects = described.features.objects & ~described.features.padding
    assert torch.equal((steps.slots >= 0) & (steps.slots < steps.object_slots), objects)
    pixels, slots = merged[0].flatten(0, 1), steps.slots.flatten()
    assert set(slots.tolist()) - {-1} <= set((~described.absent[0]).nonzero()[:, 0].tolist())
    for slot in set(slots.tolist()) - {-1}:
        mean = F.normalize(pixels[slots == slot].mean(dim=0), dim=0)
        torch.testing.assert_close(described.prototypes[0, slot], mean, rtol=1e-4, atol=1e-4)


def test_attention_is_what_the_object_has_of_the_weights() -> None:
    """Where all prototypes are alike to a position, the object has as much as it has of the prototypes."""
    model, episode = learnt_model(contrast_residual=False), random_episode(size=129)
    for module in model.modules():
        if isinstance(module, PrototypeCrossAttention):
            torch.nn.init.zeros_(module.query_projection.weight)
    _, steps = noted(model, episode)
    assert len(steps.attention) == 2 and steps.attention[0].shape == (2, 17, 17)
    for i, slots in enumerate(steps.slots):
        # A set of few pixels fills fewer slots than it has.
        objects = min(20, int(((slots >= 0) & (slots < 20)).sum()))
        background = min(50, int((slots >= 20).sum()))
        assert objects and background
        torch.testing.assert_close(float(steps.even_attention[i]), objects / (objects + background))
        for shares in steps.attention:
            torch.testing.assert_close(shares[i], torch.full((17, 17), objects / (objects + background)))


def test_of_a_method_without_training_nothing_is_noted() -> None:
    with recorded(Baseline("nearest", tiny_backbone())) as recording:
        assert recording.steps is None
