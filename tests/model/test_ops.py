"""Deformable attention against golden values, a naive loop and finite differences."""

import itertools
import math

import torch
from torch import Tensor

from model.ops import deform_attn
from tests import golden


def test_matches_golden_forward_and_backward() -> None:
    values = golden.load("deform_attn")
    locations = values["sampling_locations"].requires_grad_()
    weights = values["attention_weights"].requires_grad_()
    output = deform_attn(values["value"], values["spatial_shapes"], locations, weights)
    output.backward(values["grad_output"])
    assert golden.relative_error(output, values["output"]) < 1e-5
    assert golden.relative_error(locations.grad, values["grad_sampling_locations"]) < 1e-5
    assert golden.relative_error(weights.grad, values["grad_attention_weights"]) < 1e-5


def test_matches_naive_loop_on_two_unequal_levels() -> None:
    inputs = random_inputs([(3, 5), (2, 1)], heads=2, channels=3, queries=4, points=2)
    torch.testing.assert_close(deform_attn(*inputs), naive(*inputs))


def test_gradients_match_finite_differences() -> None:
    value, shapes, locations, weights = random_inputs([(3, 4)], heads=1, channels=2, queries=2, points=2)
    tensors = tuple(x.requires_grad_() for x in (value, locations, weights))
    assert torch.autograd.gradcheck(lambda v, x, w: deform_attn(v, shapes, x, w), tensors)


def test_empty_batch() -> None:
    value, shapes, locations, weights = random_inputs([(3, 4)], heads=2, channels=2, queries=5, points=2)
    assert deform_attn(value[:0], shapes, locations[:0], weights[:0]).shape == (0, 5, 4)


def random_inputs(
    sizes: list[tuple[int, int]], *, heads: int, channels: int, queries: int, points: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """float64 inputs for batch 2, with locations inside and far outside of the maps."""
    generator = torch.Generator().manual_seed(0)
    total = sum(math.prod(size) for size in sizes)
    value = torch.randn(2, total, heads, channels, generator=generator, dtype=torch.float64)
    shape = (2, queries, heads, len(sizes), points)
    locations = torch.rand(*shape, 2, generator=generator, dtype=torch.float64) * 2 - 0.5
    weights = torch.rand(shape, generator=generator, dtype=torch.float64)
    return value, torch.tensor(sizes), locations, weights


def naive(value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """The definition, one number at a time."""
    N, _, M, D = value.shape
    _, Q, _, L, P, _ = locations.shape
    output = torch.zeros(N, Q, M * D, dtype=value.dtype)
    starts = [0, *itertools.accumulate(int(h * w) for h, w in shapes)]
    for n, q, m, level, p in itertools.product(range(N), range(Q), range(M), range(L), range(P)):
        h, w = (int(side) for side in shapes[level])
        x, y = (locations[n, q, m, level, p] * torch.tensor([w, h]) - 0.5).tolist()
        for row, column in itertools.product((math.floor(y), math.floor(y) + 1), (math.floor(x), math.floor(x) + 1)):
            if 0 <= row < h and 0 <= column < w:
                share = (1 - abs(y - row)) * (1 - abs(x - column)) * weights[n, q, m, level, p]
                output[n, q, m * D : (m + 1) * D] += share * value[n, starts[level] + row * w + column, m]
    return output
