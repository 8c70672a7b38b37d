"""The transformer's layers against the published computation."""

import pytest
import torch

from model import layers
from model.layers import (
    DeformableSelfAttention,
    FeedForward,
    Merge,
    PrototypeCrossAttention,
    attention_heads,
    recomputed,
    sine_position_encoding,
)
from tests import golden

TOLERANCE = 2e-5


def test_deformable_self_attention_matches_golden_forward_and_backward() -> None:
    values = golden.load("deformable_self_attention")
    layer = DeformableSelfAttention(256).eval()
    assert golden.relative_error(layer.sampling_offsets.bias, values["init_offsets_bias"]) < 1e-6
    golden.fill(
        layer,
        {
            "sampling_offsets": "sampling_offsets",
            "attention_weights": "attention_weights",
            "value_projection": "value_proj",
            "output_projection": "output_proj",
        },
    )
    query, value = values["query"].requires_grad_(), values["value"].requires_grad_()
    output = layer(query, value, (13, 13), values["padding"])
    output.backward(values["grad_output"])
    assert golden.relative_error(output[:, ::8], values["output"]) < TOLERANCE
    assert golden.relative_error(query.grad[:, ::8], values["grad_query_every_8th"]) < TOLERANCE
    assert golden.relative_error(value.grad[:, ::8], values["grad_value_every_8th"]) < TOLERANCE


def test_cross_attention_matches_golden_forward_and_backward() -> None:
    values = golden.load("prototype_cross_attention")
    layer = PrototypeCrossAttention(256).eval()
    golden.fill(
        layer,
        {
            "query_projection": "q_fc",
            "key_projection": "k_fc",
            "value_projection": "v_fc",
            "output_projection": "proj",
        },
    )
    query = values["query"].requires_grad_()
    output = layer(query, values["prototypes"], values["absent"].bool())
    output.backward(values["grad_output"])
    assert golden.relative_error(output, values["output"]) < TOLERANCE
    assert golden.relative_error(query.grad, values["grad_query"]) < TOLERANCE


def test_feed_forward_matches_golden_forward_and_backward() -> None:
    values = golden.load("feed_forward")
    layer = FeedForward(256).eval()
    golden.fill(layer, {"expand": "layers.0.0", "contract": "layers.1"})
    x = values["x"].requires_grad_()
    output = layer(x)
    output.backward(values["grad_output"])
    assert golden.relative_error(output, values["output"]) < TOLERANCE
    assert golden.relative_error(x.grad, values["grad_x"]) < TOLERANCE


def test_position_encoding_matches_golden() -> None:
    values = golden.load("sine_position_encoding")
    encoding = sine_position_encoding(values["padding"], 256)
    assert golden.relative_error(encoding[:, ::8], values["output_every_8th"]) < TOLERANCE


def test_flagged_prototypes_get_no_attention() -> None:
    torch.manual_seed(0)
    layer = PrototypeCrossAttention(16).eval()
    query, prototypes = torch.randn(1, 5, 16), torch.randn(1, 7, 16)
    absent = torch.arange(7)[None] >= 4
    changed = torch.where(absent[..., None], 100 * prototypes, prototypes)
    assert torch.equal(layer(query, prototypes, absent), layer(query, changed, absent))


def test_weights_are_those_that_the_output_is_mixed_with() -> None:
    torch.manual_seed(0)
    layer = PrototypeCrossAttention(16).eval()
    query, prototypes = torch.randn(2, 5, 16), torch.randn(2, 7, 16)
    absent = torch.arange(7).expand(2, 7) >= 4
    weights = layer.weights(query, prototypes, absent)
    assert weights.shape == (2, 8, 5, 7) and not weights[..., 4:].any()
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 8, 5))
    values = layer.value_projection(prototypes).unflatten(2, (8, 2))
    mixed = torch.einsum("bhlp,bphc->blhc", weights, values).flatten(2)
    torch.testing.assert_close(layer.output_projection(mixed), layer(query, prototypes, absent))


def test_padded_values_are_not_sampled() -> None:
    torch.manual_seed(0)
    layer = DeformableSelfAttention(16).eval()
    query, value = torch.randn(1, 20, 16), torch.randn(1, 20, 16)
    ignored = torch.arange(20)[None] >= 15
    changed = torch.where(ignored[..., None], value + 9, value)
    assert torch.equal(layer(query, value, (4, 5), ignored), layer(query, changed, (4, 5), ignored))


def test_merging_is_the_convolution_of_everything_side_by_side() -> None:
    torch.manual_seed(0)
    layer = Merge(6, maps=2)
    features, prototype, maps = torch.randn(3, 6, 4, 5), torch.randn(3, 6), torch.randn(3, 2, 4, 5)
    together = torch.cat([features, prototype[..., None, None].expand_as(features), maps], dim=1)
    torch.testing.assert_close(layer(features, prototype, maps), layer.convolution(together).relu())


def test_recomputing_changes_neither_result_nor_gradient_nor_the_random_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(layers, "MOST_KEPT", 0)
    layer, x = FeedForward(8, dropout=0.5), torch.randn(2, 3, 8)
    results = []
    for run in (layer, lambda x: recomputed(layer, x)):
        torch.manual_seed(1)
        output = run(x)
        results.append((output, *torch.autograd.grad(output.sum(), list(layer.parameters())), torch.rand(1)))
    for plain, anew in zip(*results, strict=True):
        assert torch.equal(plain, anew)


@pytest.mark.parametrize(("bytes_more", "calls"), [(0, 1), (1, 2)])
def test_results_of_a_large_input_are_recomputed(bytes_more: int, calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 3, 8, requires_grad=True)
    monkeypatch.setattr(layers, "MOST_KEPT", 4 * x.numel() - bytes_more)
    layer, counted = FeedForward(8), []
    layer.register_forward_pre_hook(lambda *_: counted.append(1))
    recomputed(layer, x).sum().backward()
    assert len(counted) == calls


@pytest.mark.parametrize(("channels", "heads"), [(256, 8), (384, 12), (128, 8), (64, 8)])
def test_heads(channels: int, heads: int) -> None:
    assert attention_heads(channels) == heads
