"""The whole network: shapes, gradients, determinism, and what each option does."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.utils import counters

from model.baselines import Baseline
from model.episode_features import Features
from model.loss import dice_loss
from tests import golden
from tests.model.networks import random_episode, tiny_backbone, tiny_model


@pytest.mark.parametrize("shots", [1, 3])
def test_logits_have_the_size_of_the_query(shots: int) -> None:
    assert tiny_model()(*random_episode(shots=shots)).shape == (2, 2, 65, 65)


@pytest.mark.parametrize("shots", [1, 5])
def test_a_network_trained_with_one_shot_takes_five(shots: int) -> None:
    """Every shot counts equally: repeating the only shot changes next to nothing, nor does their order."""
    model, (query, supports, masks) = tiny_model(), random_episode(shots=shots, size=129)
    model.cluster = by_sign  # type: ignore[method-assign]
    once = model(query, supports, masks)
    assert once.shape == (2, 2, 129, 129)
    order = torch.arange(shots).flip(0)
    torch.testing.assert_close(model(query, supports[:, order], masks[:, order]), once, rtol=1e-3, atol=1e-3)
    twice = model(query, supports.repeat(1, 2, 1, 1, 1), masks.repeat(1, 2, 1, 1))
    torch.testing.assert_close(twice, once, rtol=1e-3, atol=1e-3)


def test_supports_and_masks_may_have_other_sizes_than_the_query() -> None:
    model, (query, supports, masks) = tiny_model(), random_episode(shots=2)
    assert model(query[..., :41], supports, masks).shape == (2, 2, 65, 41)
    coarse = masks[..., ::4, ::4]
    assert model(query, supports, coarse).shape == (2, 2, 65, 65)
    # Nothing but the mask at feature resolution matters.
    expected = model(query, supports, masks)
    fine = masks.repeat_interleave(2, dim=-2).repeat_interleave(2, dim=-1)
    torch.testing.assert_close(model(query, supports, fine), expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("contrast_residual", [False, True])
def test_bfloat16_autocast_stays_near_float32(contrast_residual: bool) -> None:
    model, episode = tiny_model(contrast_residual=contrast_residual), random_episode()
    model.cluster = by_sign  # type: ignore[method-assign]
    exact = model(*episode)
    with torch.autocast("cpu", torch.bfloat16):
        short = model(*episode)
        loss = dice_loss(model.train()(*episode), episode[2][:, 0])
    assert short.dtype == loss.dtype == torch.float32
    assert golden.relative_error(short, exact) < 0.03
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_float64_agrees_with_float32() -> None:
    model, (query, supports, masks) = tiny_model(contrast_residual=True), random_episode()
    model.cluster = by_sign  # type: ignore[method-assign]
    logits = model(query, supports, masks)
    exact = model.double()(query.double(), supports.double(), masks)
    assert exact.dtype == torch.float64
    assert golden.relative_error(logits, exact) < 1e-5


@pytest.mark.slow
def test_compiling_breaks_where_the_clustering_draws_only() -> None:
    model, episode = tiny_model(contrast_residual=True), random_episode()
    torch._dynamo.reset()
    counters["graph_break"].clear()
    with torch.no_grad():
        expected = model(*episode)
        compiled = torch.compile(model, backend="aot_eager")(*episode)
    assert counters["graph_break"]
    assert all("_draw" in reason for reason in counters["graph_break"])
    torch.testing.assert_close(compiled, expected, rtol=1e-4, atol=1e-5)


def by_sign(features: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Clusters that small errors, the order and the number of the features leave alone: signs of four channels."""
    assignment = ((features[:, :4] > 0) * 2 ** torch.arange(4)).sum(1) % k
    return assignment, torch.bincount(assignment, minlength=k)


def test_input_need_not_be_square() -> None:
    query, supports, masks = random_episode()
    logits = tiny_model()(query[..., :41], supports[..., :41], masks[..., :41])
    assert logits.shape == (2, 2, 65, 41)


@pytest.mark.parametrize("options", [{}, {"contrast_residual": True}, {"support_self_attention": False}])
def test_every_trainable_parameter_gets_a_gradient(options: dict[str, bool]) -> None:
    model = tiny_model(**options).train()
    query, supports, masks = random_episode(shots=2)
    # Twice, because a last layer that starts at zero lets nothing through in the first step.
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        dice_loss(model(query, supports, masks), masks[:, 0]).backward()
        optimizer.step()
    without = [name for name, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert without == []
    assert all(not p.requires_grad for p in model.backbone.parameters())


def test_evaluation_is_a_function_of_its_inputs() -> None:
    model, episode = tiny_model(), random_episode()
    first = model(*episode)
    torch.manual_seed(99)
    torch.rand(5)
    assert torch.equal(first, model(*episode))


def test_an_episode_does_not_depend_on_its_batch() -> None:
    model, (query, supports, masks) = tiny_model(), random_episode(batch=3)
    together = model(query, supports, masks)
    alone = model(query[1:2], supports[1:2], masks[1:2])
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("shots", "weight"), [(1, 15), (4, 30)])
def test_untrained_network_with_contrast_residual_is_the_nearest_method(shots: int, weight: float) -> None:
    """More shots make the contrast surer: it weighs by the root of their number."""
    model, episode = tiny_model(contrast_residual=True), random_episode(shots=shots)
    nearest = Baseline("nearest", tiny_backbone())(*episode)
    torch.testing.assert_close(model(*episode), weight * nearest, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("agreement", "counted"), [(1, 1), (-1, 0)])
def test_what_was_learnt_counts_in_evaluation_where_it_agrees_with_the_contrast(agreement: int, counted: int) -> None:
    model, episode = tiny_model(contrast_residual=True), random_episode()
    nearest = model(*episode)

    def learnt(attended: torch.Tensor) -> torch.Tensor:
        contrast = F.interpolate(nearest, attended.shape[-2:], mode="bilinear", align_corners=True)
        return agreement * contrast / 3

    model.classifier.forward = learnt  # type: ignore[method-assign]
    torch.testing.assert_close(model(*episode), (1 + counted / 3) * nearest, rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(model.train()(*episode), (1 + agreement / 3) * nearest, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shots", [1, 3])
@pytest.mark.parametrize("method", ["network", "nearest", "prototype"])
def test_supports_are_described_once_for_any_number_of_queries(method: str, shots: int) -> None:
    """To the same bits, from images and from their features; the backbone sees each image once."""
    model: Any = tiny_model(contrast_residual=True) if method == "network" else Baseline(method, tiny_backbone())
    queries, supports, masks = random_episode(batch=1, shots=shots)
    padding = torch.zeros(1, 65, 65, dtype=torch.bool)
    padding[:, 40:] = True
    seen = []
    model.backbone.register_forward_hook(lambda _, images, __: seen.append(len(images[0])))
    described = model.describe_supports(supports, masks, padding[:, None].expand(-1, shots, -1, -1))
    found = [model.segment(image, padding, described) for image in (queries, -queries)]
    assert seen == [shots, 1, 1]
    for image, logits in zip((queries, -queries), found, strict=True):
        expected = model(image, supports, masks, padding, padding[:, None].expand(-1, shots, -1, -1))
        assert torch.equal(logits, expected)
        assert torch.equal(model.segment(Features(*model.backbone(image)), padding, described), expected)


def test_support_self_attention_changes_the_result() -> None:
    with_attention, without = tiny_model(), tiny_model(support_self_attention=False)
    without.load_state_dict(with_attention.state_dict(), strict=False)
    assert not torch.allclose(with_attention(*random_episode()), without(*random_episode()))


def test_cluster_may_be_replaced() -> None:
    model, calls = tiny_model(), []

    def first_rows(features: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append((features.shape[1], k))
        assignment = torch.arange(len(features)) % k
        return assignment, torch.bincount(assignment, minlength=k)

    model.cluster = first_rows  # type: ignore[method-assign]
    model(*random_episode(batch=1, size=129))
    assert calls == [(16, 20), (16, 50)]


def test_padding_in_the_support_is_not_clustered() -> None:
    model, (query, supports, masks) = tiny_model(), random_episode(batch=1, size=129)
    seen = []
    original = model.cluster
    model.cluster = lambda features, k: (seen.append(len(features)), original(features, k))[1]  # type: ignore
    padding = torch.zeros(1, 1, 129, 129, dtype=torch.bool)
    model(query, supports, masks, None, padding)
    padding[..., 64:, :] = True
    model(query, supports, masks, None, padding)
    assert sum(seen[:2]) == 17 * 17
    assert sum(seen[2:]) < 17 * 17 * 0.6
