"""The CUDA kernels' logic on a CPU, with CUDA threads as fibers (cuda_emulation.h), against the references."""

from __future__ import annotations

import math
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.cpp_extension import get_cxx_compiler, load

from model.clusterutils import reference as clusterutils
from model.ops.reference import deform_attn

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent
ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-3}


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The kernels as operators of PyTorch, built once for all of pytest's processes (``load`` has them wait)."""
    if sys.platform != "linux" or shutil.which(get_cxx_compiler()) is None:
        pytest.skip("needs Linux and a C++ compiler")
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "emulated"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"])  # ninja
        load(
            "unsupfss_emulated",
            [str(FOLDER / "cuda_emulation.cpp")],
            extra_cflags=["-O1", "-Wno-unknown-pragmas"],
            build_directory=str(folder),
            is_python_module=False,
        )
    return torch.ops.unsupfss_emulated


def test_deformable_attention_for_any_number_of_channels(emulated: Any) -> None:
    for dtype in ROUNDING:
        for channels in (1, 3, 4, 8, 12, 16, 32, 33, 64):
            check_deform_attn(emulated, inputs(dtype, channels=channels))


def test_channels_that_take_several_passes(emulated: Any) -> None:
    for dtype in (torch.float64, torch.bfloat16):
        for channels in (513, 520):
            check_deform_attn(emulated, inputs(dtype, channels=channels, queries=1, points=2))


def test_points_that_take_several_chunks(emulated: Any) -> None:
    for dtype in (torch.float64, torch.bfloat16):
        for channels in (2, 33):
            check_deform_attn(emulated, inputs(dtype, channels=channels, queries=2, points=31))


def test_last_block_of_an_image_is_partly_empty(emulated: Any) -> None:
    for queries in (1, 11, 32, 43):
        check_deform_attn(emulated, inputs(torch.float32, queries=queries, channels=16, batch=3))


def test_rows_that_are_not_aligned(emulated: Any) -> None:
    value, shapes, locations, weights = inputs(torch.float16, channels=8)
    shifted = torch.cat([value.new_zeros(1), value.flatten()])[1:].view_as(value)
    assert shifted.data_ptr() % 4 == 2
    check_deform_attn(emulated, (shifted, shapes, locations, weights))


def test_one_pixel_and_nothing_at_all(emulated: Any) -> None:
    check_deform_attn(emulated, inputs(torch.float32, sizes=[(1, 1)]))
    for empty in ({"batch": 0}, {"queries": 0}, {"points": 0}):
        value, shapes, locations, weights = inputs(torch.float32, **empty)  # type: ignore[arg-type]
        output = emulated.deform_attn(value, shapes, locations, weights)
        assert torch.equal(output, torch.zeros(value.shape[0], locations.shape[1], 2 * 4))
        grads = emulated.deform_attn_backward(output, value, shapes, locations, weights, True)
        assert [g.shape for g in grads] == [value.shape, locations.shape, weights.shape]
        assert not grads[0].any()


def test_locations_far_away_or_not_numbers(emulated: Any) -> None:
    value, shapes, locations, weights = inputs(torch.float32, sizes=[(5, 3), (2, 7)], points=9)
    odd = torch.tensor([-1e30, 1e30, -0.5, 1.5, 0.0, 1.0, -math.inf, math.inf, math.nan])
    locations[..., 0] = odd
    locations[:, 1::2, ..., 1] = odd
    check_deform_attn(emulated, (value, shapes, locations, weights))


def test_gradients_in_the_middle_of_pixels(emulated: Any) -> None:
    # They jump there and must be the reference's side, though 0.5 / 25 * 25 is not 0.5 in a multiply-add.
    value, shapes, locations, weights = inputs(torch.float32, sizes=[(2, 25), (25, 3)], points=9)
    sides = shapes.flip(-1)[:, None]  # (L, 1, 2) as (w, h)
    locations[:] = (torch.arange(9)[:, None] % sides + 0.5) / sides
    check_deform_attn(emulated, (value, shapes, locations, weights))


def test_shapes_that_lie_never_lead_outside(emulated: Any) -> None:
    value, shapes, locations, weights = inputs(torch.float32)
    fenced = torch.full((value.numel() + 200,), math.nan)
    fenced[100:-100] = value.flatten()
    value = fenced[100:-100].view_as(value)
    for lie in (0, -5, 100, 2**40, 2**62, -(2**63)):
        wrong = torch.full_like(shapes, lie)
        output = emulated.deform_attn(value, wrong, locations, weights)
        grads = emulated.deform_attn_backward(output, value, wrong, locations, weights, True)
        assert all(x.isfinite().all() for x in (output, *grads))


def test_value_gradient_only_on_demand(emulated: Any) -> None:
    given = inputs(torch.bfloat16)
    grad = torch.ones_like(emulated.deform_attn(*given))
    everything = emulated.deform_attn_backward(grad, *given, True)
    rest = emulated.deform_attn_backward(grad, *given, False)
    assert rest[0].shape == (0,) and rest[0].dtype == torch.bfloat16
    assert torch.equal(rest[1], everything[1]) and torch.equal(rest[2], everything[2])


def test_hashes(emulated: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    for dtype in ROUNDING:
        for rows, bits in ((0, 5), (1, 1), (40, 10), (257, 32), (31, 33), (64, 63)):
            # Small integers: products are exact, and many equal the threshold.
            x = torch.randint(-2, 3, (rows, 6), generator=generator).to(dtype)
            planes = torch.randint(-2, 3, (bits, 7), generator=generator).to(dtype)
            assert torch.equal(emulated.lsh_hash(x, planes), clusterutils.lsh_hash(x, planes)), (dtype, rows, bits)


@pytest.mark.parametrize("bits", [1, 10, 32, 33, 63])
def test_kmeans_of_ragged_sets(emulated: Any, bits: int) -> None:
    generator = torch.Generator().manual_seed(bits)
    lengths = torch.tensor([70, 0, 1, 33, 3, 64])
    ks = torch.tensor([9, 3, 1, 2, 7, 0])
    codes = torch.randint(0, min(2**bits, 2**63 - 1), (6, 70), generator=generator)
    codes[3] = codes[3, :4].repeat(18)[:70]  # duplicates
    codes[0, :6] |= 1 << min(bits, 62)  # bits beyond `bits` do not count
    centroids = torch.randint(0, min(2**bits, 2**63 - 1), (6, 9), generator=generator)
    centroids[0, 1] = centroids[0, 4]  # a tie for all codes
    centroids[:3, 2] |= 1 << min(bits, 62)
    for iterations in (0, 1, 2, 10):
        check_kmeans(emulated, codes, lengths, centroids, ks, iterations, bits)


def test_kmeans_of_sets_that_shared_memory_cannot_hold(emulated: Any) -> None:
    generator = torch.Generator().manual_seed(2)
    codes = torch.randint(0, 2**32, (2, 2500), generator=generator)
    lengths, ks = torch.tensor([2500, 1100]), torch.tensor([50, 31])
    check_kmeans(emulated, codes, lengths, codes[:, :50].contiguous(), ks, 3, 32)


def test_kmeans_of_no_codes(emulated: Any) -> None:
    none = torch.zeros(2, 0, dtype=torch.int64)
    check_kmeans(emulated, none, torch.tensor([0, 0]), torch.tensor([[5], [6]]), torch.tensor([1, 1]), 2, 4)


def check_deform_attn(emulated: Any, given: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    """Compare with the reference, which computes in the locations' type; not-a-number counts as equal."""
    value, shapes, locations, weights = given
    wide = [x.clone().to(locations.dtype).requires_grad_() for x in (value, locations, weights)]
    expected = deform_attn(wide[0], shapes, wide[1], wide[2])
    grad = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(value.dtype)
    expected.backward(grad.to(expected.dtype))
    output = emulated.deform_attn(*given)
    grads = emulated.deform_attn_backward(grad, *given, True)
    assert output.dtype == grads[0].dtype == value.dtype
    close_enough(output, expected.detach(), ROUNDING[value.dtype])
    close_enough(grads[0], wide[0].grad, ROUNDING[value.dtype])
    for result, reference in zip(grads[1:], wide[1:], strict=True):
        close_enough(result, reference.grad, ROUNDING[locations.dtype])


def close_enough(result: Tensor, expected: Tensor | None, tolerance: float) -> None:
    """Relative to the largest number of all."""
    assert expected is not None
    scale = expected[expected.isfinite()].abs().max().item() if expected.isfinite().any() else 0.0
    torch.testing.assert_close(
        result, expected, rtol=0, atol=tolerance * (1 + scale), equal_nan=True, check_dtype=False
    )


def inputs(
    dtype: torch.dtype,
    *,
    sizes: list[tuple[int, int]] | None = None,
    batch: int = 2,
    heads: int = 2,
    channels: int = 4,
    queries: int = 5,
    points: int = 3,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Locations inside and outside of the maps; the last head's queries fill a block only in part."""
    sizes = sizes or [(3, 5), (1, 2), (4, 1)]
    generator = torch.Generator().manual_seed(0)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    pixels = sum(height * width for height, width in sizes)
    value = torch.randn(batch, pixels, heads, channels, generator=generator, dtype=torch.float64).to(dtype)
    shape = (batch, queries, heads, len(sizes), points)
    locations = torch.rand(*shape, 2, generator=generator, dtype=torch.float64) * 2 - 0.5
    weights = torch.rand(shape, generator=generator, dtype=torch.float64)
    return value, torch.tensor(sizes), locations.to(wide), weights.to(wide)


def check_kmeans(
    emulated: Any, codes: Tensor, lengths: Tensor, centroids: Tensor, ks: Tensor, iterations: int, bits: int
) -> None:
    """Compare with the reference, bit for bit."""
    given = (codes, lengths, centroids, ks, iterations, bits)
    results = emulated.hamming_kmeans(*given)
    for result, expected in zip(results, clusterutils.hamming_kmeans(*given), strict=True):
        assert result.dtype == expected.dtype and torch.equal(result, expected), (iterations, bits)
