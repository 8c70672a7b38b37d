"""The methods without training against naive formulations."""

import numpy as np
import torch
import torch.nn.functional as F

from model.baselines import Baseline
from model.contrast import nearest_contrast, trust
from model.episode_features import masked_average, support_features
from tests import golden
from tests.model.networks import random_episode, tiny_backbone


def test_masked_average_matches_golden() -> None:
    values = golden.load("masked_average")
    pooled = masked_average(values["features"], values["mask"][:, 0])
    assert golden.relative_error(pooled, values["output"][..., 0, 0]) < 1e-5
    empty = masked_average(values["features"], torch.zeros_like(values["mask"][:, 0]))
    torch.testing.assert_close(empty, values["output_empty"][..., 0, 0])


def test_nearest_contrast_matches_a_loop_over_pixels() -> None:
    torch.manual_seed(1)
    query, support = torch.randn(1, 6, 4, 5), torch.randn(1, 2, 6, 4, 5)
    shares = torch.rand(3, 1, 2, 4, 5)  # of object, background, void
    share, background_share, _ = shares / shares.sum(0)
    query_padding = torch.zeros(1, 4, 5, dtype=torch.bool)
    query_padding[:, 3] = True
    support_padding = torch.zeros(1, 2, 4, 5, dtype=torch.bool)
    support_padding[:, 1, :, 4] = True
    q = query[0].flatten(1).T
    s = support[0].permute(0, 2, 3, 1).reshape(-1, 6)
    counted = torch.cat([q[~query_padding.flatten()], s[~support_padding.flatten()]])
    q, s = q - counted.mean(0), s - counted.mean(0)
    expected = []
    for pixel in q:
        cosine = F.cosine_similarity(pixel[None], s)
        valid, is_object = ~support_padding.flatten(), share.flatten() > 0.5
        inside, outside = cosine[valid & is_object], cosine[valid & (background_share.flatten() >= 0.5)]
        expected.append(inside.sort().values[-5:].mean() - outside.sort().values[-5:].mean())
    contrast = nearest_contrast(query, support, share, background_share, query_padding, support_padding)
    torch.testing.assert_close(contrast.flatten(), torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_an_object_smaller_than_a_cell_still_counts() -> None:
    torch.manual_seed(1)
    share = torch.zeros(1, 1, 4, 4)
    share[0, 0, 1, 2] = 0.2
    support = torch.randn(1, 1, 8, 4, 4)
    nothing = torch.zeros(1, 4, 4, dtype=torch.bool)
    contrast = nearest_contrast(support[:, 0], support, share, 1 - share, nothing, nothing[:, None])
    assert contrast[0, 0].argmax() == 1 * 4 + 2


def test_void_of_supports_is_neither_object_nor_background() -> None:
    """Sides are one more than a multiple of the stride, so positions of features are pixels: shares are 0 or 1."""
    _, supports, masks = random_episode()
    masks[:, :, 40:] = 255
    resized = support_features(tiny_backbone(), supports, masks, None)
    at_positions = masks[:, :, ::8, ::8]
    assert torch.equal(resized.share, (at_positions == 1).float())
    assert torch.equal(resized.background_share, (at_positions == 0).float())
    nearest = torch.arange(9) * 65 // 9
    at_nearest = masks[:, :, nearest[:, None], nearest]
    assert torch.equal(resized.objects, at_nearest == 1) and torch.equal(resized.void, at_nearest == 255)


def test_trust_grows_with_the_correlation_of_what_is_not_padded() -> None:
    torch.manual_seed(1)
    correction, contrast = torch.randn(2, 3, 6, 7)
    contrast[1] += 0.4 * correction[1]
    contrast[2] = 5 * correction[2] - 3
    padding = torch.zeros(3, 6, 7, dtype=torch.bool)
    padding[:, :, 5:] = True
    contrast[padding] = 1000
    inside = ~padding[0]
    correlations = [np.corrcoef(*pair)[0, 1] for pair in zip(correction[:, inside], contrast[:, inside], strict=True)]
    expected = 1 / (1 + np.exp(-20 * (np.array(correlations) - 0.2)))
    np.testing.assert_allclose(trust(correction, contrast, padding), expected, rtol=1e-4)
    assert trust(torch.zeros(1, 6, 7), contrast[:1], padding[:1]) < 0.02


def test_baselines_give_logits_of_two_opposite_channels() -> None:
    backbone, episode = tiny_backbone(), random_episode(shots=2)
    for method in ("foreground", "prototype", "nearest"):
        logits = Baseline(method, backbone)(*episode)
        assert logits.shape == (2, 2, 65, 65)
        assert torch.equal(logits[:, 0], -logits[:, 1])
    assert (Baseline("foreground", backbone)(*episode).argmax(1) == 1).all()


def test_prototype_method_finds_a_copy_of_the_support() -> None:
    backbone, (_, supports, masks) = tiny_backbone(), random_episode(size=129)
    supports[:, :, :, 32:64, 43:121] += 3
    prediction = Baseline("prototype", backbone)(supports[:, 0], supports, masks).argmax(1)
    overlap = (prediction * masks[:, 0]).sum() / masks.sum()
    assert overlap > 0.8
