"""Speed and memory of the native operators next to the plain formulations, in one run.

    python -m benchmarks.ops

Deformable attention at the network's shape (one map of 60x60, a query for each pixel, 8 heads of 32 channels, 9 points
that lie as in an untrained network, jittered); plain is one ``grid_sample`` and a weighted sum. Clustering of a batch:
hashing, then 10 iterations for two sets of each image, 900 pixels into 20 clusters and 2,700 into 50; plain is
``reference.py``. Medians, the sides taking turns.

Two cores of an AMD EPYC with AVX-512, torch 2.15 (grid_sample's times vary most, from 26 to 145 ms for a forward):

    CPU, milliseconds                              native    plain  speed-up
    deformable attention, forward, batch 1           2.42    37.27     15.4x
    deformable attention, and backward, batch 1      8.82    68.83      7.8x
    deformable attention, forward, batch 4           8.48   121.88     14.4x
    deformable attention, and backward, batch 4     33.67   284.35      8.4x
    forward: 0.9 MiB beyond inputs (25.9 MiB) and results
    and backward: 1.8 MiB beyond inputs (25.9 MiB) and results
    hashing and clustering, batch 4                  3.62    60.24     16.6x

Not measured on a GPU yet.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from benchmarks.model import peak_memory, take_turns
from benchmarks.published_network import sample_points
from model import clusterutils, ops

SIDE, HEADS, CHANNELS, POINTS = 60, 8, 32, 9
OBJECT, BACKGROUND = 900, 2700


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="the sides take turns so often")
    rounds = parser.parse_args().rounds
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; native: {ops.backend()}")
    print_cpu(rounds)
    if torch.cuda.is_available():
        print_gpu(rounds)


def print_cpu(rounds: int) -> None:
    """Milliseconds on a CPU, and the memory that deformable attention holds beyond its inputs."""
    print(f"\n{'CPU, milliseconds':44s}   native    plain  speed-up")
    for batch in (1, 4):
        inputs = attention_inputs(batch, torch.float32, "cpu")
        print_pair(f"deformable attention, forward, batch {batch}", sides(inputs, forward), rounds)
        print_pair(f"deformable attention, and backward, batch {batch}", sides(inputs, forward_backward), rounds)
    size = sum(tensor.nbytes for tensor in inputs)
    output, gradients = inputs[0].nbytes, size - inputs[1].nbytes
    for title, run, results in (
        ("forward", forward, output),
        ("and backward", forward_backward, 2 * output + gradients),
    ):
        beyond = peak_memory(partial(run, ops.deform_attn, inputs)) - results
        print(f"{title}: {beyond / 2**20:.1f} MiB beyond inputs ({size / 2**20:.1f} MiB) and results")
    features = clustering_inputs(4, "cpu")
    runs: dict[str, Callable[[], object]] = {
        "native": partial(cluster, clusterutils, *features),
        "plain": partial(cluster, clusterutils.reference, *features),
    }
    print_pair("hashing and clustering, batch 4", runs, rounds)


def print_pair(name: str, runs: dict[str, Callable[[], object]], rounds: int) -> None:
    """One line: milliseconds of both sides and their ratio."""
    native, plain = (1000 * seconds for seconds in take_turns(runs, rounds).values())
    print(f"{name:44s} {native:8.2f} {plain:8.2f} {plain / native:8.1f}x", flush=True)


def print_gpu(rounds: int) -> None:
    """Microseconds on a GPU next to the floor: inputs and outputs moved once at the bandwidth of a large copy."""
    bandwidth = copy_bandwidth()
    print(f"\n{torch.cuda.get_device_name()}, a copy moves {bandwidth / 1e12:.2f} TB/s")
    print(f"{'microseconds':44s}   native    plain  speed-up    floor  gathered TB/s")
    for dtype in (torch.float32, torch.bfloat16):
        for batch in (1, 4, 32):
            inputs = attention_inputs(batch, dtype, "cuda")
            once = sum(tensor.nbytes for tensor in inputs) + inputs[0].nbytes
            corners = inputs[3].numel() * 4 * CHANNELS * inputs[0].element_size()  # read through the caches
            for title, run, moved in (("forward", forward, 1), ("and backward", forward_backward, 3)):
                native, plain = (gpu_seconds(side, rounds) for side in sides(inputs, run).values())
                name = f"attention, {title}, {str(dtype).removeprefix('torch.')}, batch {batch}"
                floor, gathered = 1e6 * moved * once / bandwidth, moved * corners / native / 1e12
                print_gpu_pair(name, native, plain, f"{floor:8.1f} {gathered:8.2f}")
    for batch in (4, 32):
        arguments = clustering_inputs(batch, "cuda")
        native, plain = (
            gpu_seconds(partial(cluster, side, *arguments), rounds) for side in (clusterutils, clusterutils.reference)
        )
        print_gpu_pair(f"hashing and clustering, batch {batch}", native, plain)


def print_gpu_pair(name: str, native: float, plain: float, rest: str = "") -> None:
    """One line: microseconds of both sides and their ratio."""
    print(f"{name:44s} {1e6 * native:8.1f} {1e6 * plain:8.1f} {plain / native:8.1f}x {rest}", flush=True)


def sides(inputs: Sequence[Tensor], run: Callable[..., object]) -> dict[str, Callable[[], object]]:
    """``run`` with the native operator and with the plain formulation."""
    return {"native": partial(run, ops.deform_attn, inputs), "plain": partial(run, plain_attention, inputs)}


def plain_attention(value: Tensor, _: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """The grid-sample formulation, for one level."""
    locations, weights = (tensor[:, :, :, 0].to(value.dtype) for tensor in (locations, weights))
    return sample_points(value, (SIDE, SIDE), locations, weights)


def forward(attention: Callable[..., Tensor], inputs: Sequence[Tensor]) -> None:
    """Without gradients."""
    with torch.no_grad():
        attention(*inputs)


def forward_backward(attention: Callable[..., Tensor], inputs: Sequence[Tensor]) -> None:
    """With the gradients of values, locations and weights."""
    value, shapes, locations, weights = (
        tensor.detach().requires_grad_(tensor.is_floating_point()) for tensor in inputs
    )
    output = attention(value, shapes, locations, weights)
    torch.autograd.grad(output, (value, locations, weights), torch.ones_like(output))


def attention_inputs(batch: int, dtype: torch.dtype, device: str) -> list[Tensor]:
    """Values, map size, locations and weights as the network makes them before training."""
    generator = torch.Generator().manual_seed(0)
    pixels = SIDE * SIDE
    value = torch.randn(batch, pixels, HEADS, CHANNELS, generator=generator)
    centre = (torch.arange(SIDE) + 0.5) / SIDE
    centres = torch.stack([centre.expand(SIDE, SIDE), centre[:, None].expand(SIDE, SIDE)], -1).view(pixels, 1, 1, 1, 2)
    angles = torch.arange(HEADS) * (2 * math.pi / HEADS)
    directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
    offsets = directions[:, None] * torch.arange(1, POINTS + 1)[:, None]  # (heads, points, 2) pixels
    jitter = 0.3 * torch.randn(batch, pixels, HEADS, 1, POINTS, 2, generator=generator)
    locations = centres + (offsets[:, None] + jitter) / SIDE
    weights = torch.rand(batch, pixels, HEADS, 1, POINTS, generator=generator).softmax(-1)
    shapes = torch.tensor([[SIDE, SIDE]])
    return [value.to(device, dtype), shapes, locations.to(device), weights.to(device)]


def clustering_inputs(batch: int, device: str) -> tuple[Tensor, Tensor]:
    """Features (batch, 3600, 256) and hyperplanes."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(batch, OBJECT + BACKGROUND, 256, generator=generator).relu()
    return features.to(device), torch.randn(32, 257, generator=generator).to(device)


def cluster(side: object, features: Tensor, planes: Tensor) -> None:
    """Hash all pixels and cluster both sets of each image."""
    batch, device = len(features), features.device
    codes = side.lsh_hash(features.flatten(0, 1), planes).view(batch, -1)  # type: ignore[attr-defined]
    sets = codes.new_zeros(batch, 2, BACKGROUND)
    sets[:, 0, :OBJECT] = codes[:, :OBJECT]
    sets[:, 1] = codes[:, OBJECT:]
    sets = sets.flatten(0, 1)
    lengths = torch.tensor([OBJECT, BACKGROUND], device=device).repeat(batch)
    ks = torch.tensor([20, 50], device=device).repeat(batch)
    side.hamming_kmeans(sets, lengths, sets[:, :50], ks, 10, 32)  # type: ignore[attr-defined]


def gpu_seconds(run: Callable[[], object], rounds: int) -> float:
    """Median seconds of a run on the GPU, measured by events around it, after a warm-up."""
    seconds = []
    for number in range(rounds + 3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        if number >= 3:
            seconds.append(start.elapsed_time(end) / 1000)
    return sorted(seconds)[len(seconds) // 2]


def copy_bandwidth() -> float:
    """Bytes a second, read and written, of a copy of 1 GiB."""
    source = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() / gpu_seconds(partial(target.copy_, source), 10)


if __name__ == "__main__":
    main()
