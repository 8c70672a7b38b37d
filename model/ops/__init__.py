"""Deformable attention (docs/method.md, section 7): the public function, checks and dispatch.

The plain PyTorch formulation in ``reference.py`` defines the operation and is used where nothing is built;
``make.sh`` builds ``deform_attn_cpu.cpp`` and ``deform_attn_cuda.cu``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.ops import reference
from util import operators

__all__ = ["backend", "deform_attn"]

_DEVICES = operators.load(Path(__file__).parent)


def backend() -> str:
    """Where ``deform_attn`` runs: ``"reference"`` is plain PyTorch, ``"cpu"`` and ``"cpu, cuda"`` are native."""
    return ", ".join(_DEVICES) or "reference"


def deform_attn(value: Tensor, spatial_shapes: Tensor, sampling_locations: Tensor, attention_weights: Tensor) -> Tensor:
    """Sample ``value`` at the locations and add the samples up by their weights.

    Letters: N batch, S = sum of all levels' h*w, M heads, D channels of a head, L levels, P points, Q queries.

    value (N, S, M, D) floating; spatial_shapes (L, 2) int64 (h, w), best on the CPU; sampling_locations
    (N, Q, M, L, P, 2) as (x, y) with 0..1 across the map, sampled bilinearly at ``location * size - 0.5`` and zero
    outside; attention_weights (N, Q, M, L, P). Locations and weights are taken in float32 where ``value`` has 16 bits,
    else in its type. Returns (N, Q, M * D) in the type of ``value``, summed in float32 or float64.

    On a GPU the gradient of ``value`` is summed by atomics, in an order that changes; under
    ``torch.use_deterministic_algorithms`` it is gathered instead. ``torch.compile``, ``torch.export`` and
    ``torch.jit.trace`` take it; ``torch.jit.script``, which torch has given up, does not. Raises ``TypeError`` for a
    wrong dtype, ``ValueError`` for a wrong shape or device, naming the argument.
    """
    _check(value, spatial_shapes, sampling_locations, attention_weights)
    coordinates = torch.promote_types(value.dtype, torch.float32)
    arguments = (value, spatial_shapes, sampling_locations.to(coordinates), attention_weights.to(coordinates))
    if value.device.type not in _DEVICES:
        return reference.deform_attn(*arguments)
    sampled: Tensor = torch.ops.unsupfss.deform_attn(*arguments)
    return sampled


def _check(value: Tensor, spatial_shapes: Tensor, sampling_locations: Tensor, attention_weights: Tensor) -> None:
    if value.dim() != 4:
        raise ValueError(f"value: expected (N, S, M, D), got {tuple(value.shape)}")
    if spatial_shapes.dim() != 2 or spatial_shapes.shape[1] != 2:
        raise ValueError(f"spatial_shapes: expected (L, 2), got {tuple(spatial_shapes.shape)}")
    N, _, M, _ = value.shape
    L = spatial_shapes.shape[0]
    Q, P = (sampling_locations.shape[1], sampling_locations.shape[4]) if sampling_locations.dim() == 6 else (-1, -1)
    for name, tensor, shape in (
        ("sampling_locations", sampling_locations, (N, Q, M, L, P, 2)),
        ("attention_weights", attention_weights, (N, Q, M, L, P)),
    ):
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name}: expected {_letters(shape)}, got {tuple(tensor.shape)}")
        if tensor.device != value.device:
            raise ValueError(f"{name}: expected it on {value.device} like value, got {tensor.device}")
    for name, tensor in (
        ("value", value),
        ("sampling_locations", sampling_locations),
        ("attention_weights", attention_weights),
    ):
        if tensor.dtype not in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
            raise TypeError(f"{name}: expected float32, float64, bfloat16 or float16, got {tensor.dtype}")
    if spatial_shapes.dtype != torch.int64:
        raise TypeError(f"spatial_shapes: expected int64, got {spatial_shapes.dtype}")
    if spatial_shapes.device.type not in ("cpu", value.device.type):
        raise ValueError(f"spatial_shapes: expected it on the CPU or on {value.device}, got {spatial_shapes.device}")


def _letters(shape: tuple[int, ...]) -> str:
    """Numbers, with the letters Q and P where the shape of the argument does not determine them."""
    return f"({', '.join('Q or P' if size < 0 else str(size) for size in shape)})"


def _fake(value: Tensor, spatial_shapes: Tensor, sampling_locations: Tensor, attention_weights: Tensor) -> Tensor:
    return value.new_empty(value.shape[0], sampling_locations.shape[1], value.shape[2] * value.shape[3])


def _fake_backward(
    grad: Tensor, value: Tensor, spatial_shapes: Tensor, locations: Tensor, weights: Tensor, with_value: bool
) -> tuple[Tensor, Tensor, Tensor]:
    grad_value = torch.empty_like(value) if with_value else value.new_empty(0)
    return grad_value, torch.empty_like(locations), torch.empty_like(weights)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
    value, spatial_shapes, locations, weights = ctx.saved_tensors
    gather = grad.is_cuda and torch.are_deterministic_algorithms_enabled()
    grad_value, grad_locations, grad_weights = torch.ops.unsupfss.deform_attn_backward(
        grad, value, spatial_shapes, locations, weights, not gather
    )
    if gather:
        grad_value = gathered_grad_value(grad, value, spatial_shapes, locations, weights)
    return grad_value, None, grad_locations, grad_weights


def gathered_grad_value(
    grad: Tensor, value: Tensor, spatial_shapes: Tensor, locations: Tensor, weights: Tensor
) -> Tensor:
    """The gradient of ``value`` in an order that never changes: each row sums what was read from it, sorted by reader.

    grad (N, Q, M * D), the rest as in ``deform_attn``. Slower than atomics, and it holds 24 bytes for each corner of
    each sampling point while it sorts.
    """
    rows, shares = reference.bags(value, spatial_shapes, locations, weights)  # (N * Q * M, L * P * 4) each
    sorted_rows, order = rows.flatten().sort(stable=True)
    row_count = value.numel() // max(value.shape[3], 1)
    starts = torch.searchsorted(sorted_rows, torch.arange(row_count, device=rows.device))
    gathered = torch.nn.functional.embedding_bag(
        order // rows.shape[1],
        grad.reshape(-1, value.shape[3]).to(shares.dtype),
        starts,
        per_sample_weights=shares.flatten()[order],
        mode="sum",
    )
    return gathered.view_as(value).to(value.dtype)


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


if _DEVICES:
    torch.library.register_fake("unsupfss::deform_attn", _fake)
    torch.library.register_fake("unsupfss::deform_attn_backward", _fake_backward)
    torch.library.register_autograd("unsupfss::deform_attn", _backward, setup_context=_save)
