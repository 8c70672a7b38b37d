"""Deformable attention, native and reference: golden values, a naive loop, finite differences, odd inputs, messages."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from torch import Tensor

from model.ops import _DEVICES, deform_attn, gathered_grad_value, reference
from tests import golden

Inputs = Sequence[Tensor]  # value, spatial_shapes, sampling_locations, attention_weights
SIZES = [(3, 5), (2, 1)]


@pytest.fixture(params=["native", "reference"])
def attention(request: pytest.FixtureRequest) -> Iterator[Callable[..., Tensor]]:
    """The public function where it runs natively, and the reference."""
    if request.param == "native" and not _DEVICES:
        pytest.skip("the native operator is not built")
    yield deform_attn if request.param == "native" else reference.deform_attn


def test_matches_golden_forward_and_backward(attention: Callable[..., Tensor]) -> None:
    values = golden.load("deform_attn")
    locations = values["sampling_locations"].requires_grad_()
    weights = values["attention_weights"].requires_grad_()
    output = attention(values["value"], values["spatial_shapes"], locations, weights)
    output.backward(values["grad_output"])
    assert golden.relative_error(output, values["output"]) < 1e-5
    assert golden.relative_error(locations.grad, values["grad_sampling_locations"]) < 1e-5
    assert golden.relative_error(weights.grad, values["grad_attention_weights"]) < 1e-5


@pytest.mark.parametrize(
    ("sizes", "heads", "channels", "queries", "points"),
    [
        (SIZES, 2, 3, 4, 2),
        ([(1, 1)], 1, 1, 1, 1),  # a single pixel
        ([(1, 7), (4, 1), (2, 3)], 3, 33, 2, 1),  # one channel more than four vectors
        ([(5, 3)], 1, 16, 70, 3),  # more queries than a block
        ([(2, 3)], 2, 8, 1, 4),
    ],
)
def test_matches_naive_loop(
    attention: Callable[..., Tensor], sizes: list[tuple[int, int]], heads: int, channels: int, queries: int, points: int
) -> None:
    inputs = random_inputs(sizes, heads=heads, channels=channels, queries=queries, points=points)
    torch.testing.assert_close(attention(*inputs), naive(*inputs))


def test_on_one_map_in_operators_of_onnx() -> None:
    for size in ((5, 3), (1, 1), (2, 7)):
        value, shapes, locations, weights = random_inputs([size], heads=2, channels=3, queries=6, points=4)
        output = reference.deform_attn_on_one_map(value, size, locations, weights)
        torch.testing.assert_close(output, naive(value, shapes, locations, weights))


@pytest.mark.parametrize("channels", [1, 2, 5, 16])
def test_gradients_match_finite_differences(attention: Callable[..., Tensor], channels: int) -> None:
    value, shapes, locations, weights = random_inputs(SIZES, heads=2, channels=channels, queries=3, points=2)
    tensors = tuple(x.requires_grad_() for x in (value, locations, weights))
    assert torch.autograd.gradcheck(lambda v, x, w: attention(v, shapes, x, w), tensors)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_error_is_at_most_twice_that_of_the_reference(dtype: torch.dtype) -> None:
    exact = random_inputs([(9, 7)], heads=4, channels=32, queries=40, points=9)
    coordinates = torch.promote_types(dtype, torch.float32)
    short = (exact[0].to(dtype), exact[1], exact[2].to(coordinates), exact[3].to(coordinates))
    inputs = tuple(x if x.dtype == torch.int64 else x.double() for x in short)  # as rounded, then exact
    grad = torch.randn(2, 40, 128, generator=torch.Generator().manual_seed(1)).to(dtype)
    truth = output_and_gradients(reference.deform_attn, inputs, grad.double())
    ours = output_and_gradients(deform_attn, short, grad)
    plain = output_and_gradients(reference.deform_attn, short, grad)
    for name, true, of_ours, of_plain in zip(
        ("output", "value", "locations", "weights"), truth, ours, plain, strict=True
    ):
        error, allowed = golden.relative_error(of_ours, true), golden.relative_error(of_plain, true)
        assert error <= max(2 * allowed, 4 * torch.finfo(true.dtype).eps), (name, error, allowed)
        assert of_ours.dtype == of_plain.dtype


def test_gradients_at_pixel_centres_are_those_of_the_reference() -> None:
    """Where they jump from one side to the other: a location off by the last bit would give the other side's."""
    value, shapes, _, weights = (
        x.float() if x.is_floating_point() else x
        for x in random_inputs([(7, 59)], heads=1, channels=8, queries=7 * 59, points=1)
    )
    y, x = torch.meshgrid((torch.arange(7) + 0.5) / 7, (torch.arange(59) + 0.5) / 59, indexing="ij")
    locations = torch.stack([x, y], dim=-1).view(1, -1, 1, 1, 1, 2).expand(2, -1, -1, -1, -1, -1)
    grad = torch.randn(2, 7 * 59, 8, generator=torch.Generator().manual_seed(1))
    inputs = (value, shapes, locations, weights)
    expected = output_and_gradients(reference.deform_attn, inputs, grad)
    for ours, plain in zip(output_and_gradients(deform_attn, inputs, grad), expected, strict=True):
        assert golden.relative_error(ours, plain) < 1e-6


def test_locations_far_outside_give_zero_and_those_that_are_no_number_give_none(
    attention: Callable[..., Tensor],
) -> None:
    value, shapes, locations, weights = random_inputs([(3, 4)], heads=1, channels=20, queries=6, points=1)
    for query, far in enumerate((1e30, -1e30, 1.7, -0.7)):
        locations[:, query] = far
    locations[:, 4] = math.nan
    output = attention(value, shapes, locations, weights)
    assert (output[:, :4] == 0).all()
    assert output[:, 4].isnan().all()
    torch.testing.assert_close(output[:, 5:], naive(value, shapes, locations[:, 5:], weights[:, 5:]))


@pytest.mark.parametrize("empty", ["batch", "queries", "channels"])
def test_nothing_in_nothing_out(attention: Callable[..., Tensor], empty: str) -> None:
    value, shapes, locations, weights = random_inputs([(3, 4)], heads=2, channels=2, queries=5, points=2)
    if empty == "batch":
        value, locations, weights = value[:0], locations[:0], weights[:0]
    elif empty == "queries":
        locations, weights = locations[:, :0], weights[:, :0]
    else:
        value = value[..., :0]
    output = attention(value.requires_grad_(), shapes, locations, weights)
    assert output.shape == (len(value), locations.shape[1], 2 * value.shape[3])
    output.sum().backward()
    assert value.grad is not None
    assert (value.grad == 0).all()


def test_inputs_need_not_be_contiguous() -> None:
    value, shapes, locations, weights = random_inputs(SIZES, heads=2, channels=8, queries=6, points=2)
    expected = output_and_gradients(deform_attn, (value, shapes, locations, weights), torch.ones(2, 6, 16).double())
    strided = (transposed(value), shapes, transposed(locations), transposed(weights))
    grad = torch.ones(()).double().expand(2, 6, 16)
    for ours, contiguous in zip(output_and_gradients(deform_attn, strided, grad), expected, strict=True):
        assert torch.equal(ours, contiguous)


def test_threads_and_repetition_change_no_bit() -> None:
    inputs = random_inputs([(6, 5)], heads=3, channels=7, queries=80, points=3)
    grad = torch.randn(2, 80, 21, generator=torch.Generator().manual_seed(1)).double()
    expected = output_and_gradients(deform_attn, inputs, grad)
    torch.set_num_threads(2)
    try:
        again = output_and_gradients(deform_attn, inputs, grad)
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(first, second) for first, second in zip(expected, again, strict=True))


def test_gathering_gives_the_gradient_of_the_values() -> None:
    """What a GPU does in deterministic mode, here on a CPU."""
    value, shapes, locations, weights = random_inputs(SIZES, heads=2, channels=5, queries=9, points=3)
    grad = torch.randn(2, 9, 10, generator=torch.Generator().manual_seed(1)).double()
    expected = output_and_gradients(deform_attn, (value, shapes, locations, weights), grad)[1]
    torch.testing.assert_close(gathered_grad_value(grad, value, shapes, locations, weights), expected)


def test_compiling_and_exporting_see_one_operator() -> None:
    value, shapes, locations, weights = (
        x.float() if x.is_floating_point() else x
        for x in random_inputs(SIZES, heads=2, channels=4, queries=3, points=2)
    )
    compiled = torch.compile(deform_attn, backend="aot_eager", fullgraph=True)
    for tensor in (value, locations, weights):
        tensor.requires_grad_()
    grad = torch.ones(2, 3, 8)
    expected = output_and_gradients(deform_attn, (value, shapes, locations, weights), grad)
    for ours, eager in zip(
        output_and_gradients(compiled, (value, shapes, locations, weights), grad), expected, strict=True
    ):
        torch.testing.assert_close(ours, eager)
    if _DEVICES:
        torch.library.opcheck(torch.ops.unsupfss.deform_attn.default, (value, shapes, locations, weights))
        exported = torch.export.export(Attention(), (value, shapes, locations, weights))
        assert "unsupfss.deform_attn" in str(exported.graph)


def test_autocast_keeps_the_values_type_and_the_locations_float32() -> None:
    value, shapes, locations, weights = random_inputs(SIZES, heads=2, channels=4, queries=3, points=2)
    with torch.autocast("cpu", torch.bfloat16):
        output = deform_attn(value.bfloat16(), shapes, locations.float(), weights.bfloat16())
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.double(), naive(value, shapes, locations, weights), rtol=0.05, atol=0.05)


def test_each_wrong_argument_has_its_own_message() -> None:
    value, shapes, locations, weights = random_inputs(SIZES, heads=2, channels=4, queries=3, points=2)
    for kind, message, inputs in (
        (ValueError, r"value: expected \(N, S, M, D\), got \(17, 2, 4\)", (value[0], shapes, locations, weights)),
        (ValueError, r"spatial_shapes: expected \(L, 2\), got \(4,\)", (value, shapes.flatten(), locations, weights)),
        (ValueError, r"sampling_locations: expected .*got \(2, 3, 1", (value, shapes, locations[:, :, :1], weights)),
        (
            ValueError,
            r"sampling_locations: expected .*got \(2, 3, 2, 2, 2\)",
            (value, shapes, locations[..., 0], weights),
        ),
        (ValueError, r"attention_weights: expected \(2, 3, 2, 2, 2\)", (value, shapes, locations, weights[:, :2])),
        (ValueError, "sampling_locations: expected it on cpu", (value, shapes, locations.to("meta"), weights)),
        (TypeError, "value: expected float32.*got torch.int64", (value.long(), shapes, locations, weights)),
        (TypeError, "attention_weights: expected float32", (value, shapes, locations, weights.long())),
        (TypeError, "spatial_shapes: expected int64, got torch.int32", (value, shapes.int(), locations, weights)),
    ):
        with pytest.raises(kind, match=message):
            deform_attn(*inputs)


@pytest.mark.skipif(not _DEVICES, reason="the native operator is not built")
def test_shapes_that_do_not_hold_the_values_are_refused_natively() -> None:
    value, _, locations, weights = random_inputs(SIZES, heads=2, channels=4, queries=3, points=2)
    with pytest.raises(RuntimeError, match="spatial_shapes hold 18 pixels, value has 17"):
        deform_attn(value, torch.tensor([(4, 4), (2, 1)]), locations, weights)
    with pytest.raises(RuntimeError, match="must be positive"):
        deform_attn(value, torch.tensor([(-3, -5), (2, 1)]), locations, weights)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("channels", [1, 8, 32, 33])
def test_a_gpu_agrees_with_the_cpu(dtype: torch.dtype, channels: int) -> None:
    if "cuda" not in _DEVICES:
        pytest.skip("the operator is not built for CUDA")
    value, shapes, locations, weights = random_inputs(
        [(9, 7), (2, 3)], heads=4, channels=channels, queries=40, points=5
    )
    coordinates = torch.promote_types(dtype, torch.float32)
    inputs = (value.to(dtype), shapes, locations.to(coordinates), weights.to(coordinates))
    grad = torch.randn(2, 40, 4 * channels, generator=torch.Generator().manual_seed(1)).to(dtype)
    on_gpu = tuple(x.cuda() for x in inputs)
    expected = output_and_gradients(deform_attn, inputs, grad)
    tolerance = 8 * torch.finfo(dtype).eps
    for ours, cpu in zip(output_and_gradients(deform_attn, on_gpu, grad.cuda()), expected, strict=True):
        assert golden.relative_error(ours.cpu(), cpu) < tolerance
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (output_and_gradients(deform_attn, on_gpu, grad.cuda()) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    for ours, again, cpu in zip(first, second, expected, strict=True):
        assert torch.equal(ours, again)
        assert golden.relative_error(ours.cpu(), cpu) < tolerance


class Attention(torch.nn.Module):
    def forward(self, value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        return deform_attn(value, shapes, locations, weights)


def output_and_gradients(function: Callable[..., Tensor], inputs: Inputs, grad: Tensor) -> list[Tensor]:
    """The output and the gradients of value, locations and weights."""
    value, locations, weights = (inputs[i].detach().requires_grad_() for i in (0, 2, 3))
    output = function(value, inputs[1], locations, weights)
    return [output.detach(), *torch.autograd.grad(output, (value, locations, weights), grad)]


def transposed(tensor: Tensor) -> Tensor:
    """The same numbers in another order of memory."""
    return tensor.transpose(0, 1).contiguous().transpose(0, 1)


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
