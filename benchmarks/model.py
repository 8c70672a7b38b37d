"""Speed and memory of the network next to the plain formulation of the published one, in one run.

    python -m benchmarks.model

On a CPU: an evaluation forward of one episode and a training step of four (ResNet-50, 473 pixels, one shot). On a GPU
also episodes per second. Both networks compute the same (tests/model/test_published_network.py). The floor is the
network's multiply-adds at the rate of a large matrix product, whichever way of computing that is faster; oneDNN's 3x3
convolutions go faster still, so a figure may lie below it. Tensors: peak of what was allocated and not yet freed.

Two cores of an AMD EPYC with AVX-512, torch 2.15, native operators, medians (the machine's speed drifts by a third,
ratios less):

    evaluation forward, batch 1            seconds  speed-up   floor
    published, plain                          2.07     1.00x    1.78
    ours, published settings                  1.18     1.75x    1.54
    ours, default                             1.21     1.70x    1.57
    ours, default, bfloat16                   0.69     3.00x    1.57

    training step, batch 4                 seconds   tensors   process
    published, plain                         12.59   2098 MiB   3566 MiB
    ours, published settings                  7.15    866 MiB   2330 MiB
    ours, default                             9.64    880 MiB   2393 MiB

Not measured on a GPU yet.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.published_network import PublishedNetwork
from model import FSSModel
from model.frozen.backbone import build_backbone
from model.loss import dice_loss

SIZE = 473
NETWORKS = ("published, plain", "ours, published settings", "ours, default")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="number of times the two sides take turns")
    parser.add_argument("--step", choices=NETWORKS, help=argparse.SUPPRESS)  # one side of the training table
    arguments = parser.parse_args()
    if arguments.step:
        print_training_step(arguments.step, arguments.rounds)
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {SIZE}x{SIZE}, ResNet-50, 1 shot")
    print_evaluation(arguments.rounds)
    print("\ntraining step, batch 4                 seconds   tensors   process")
    for name in NETWORKS:
        subprocess.run(
            [sys.executable, "-m", "benchmarks.model", "--step", name, "--rounds", str(arguments.rounds)], check=True
        )
    if torch.cuda.is_available():
        print_gpu(arguments.rounds)


def print_evaluation(rounds: int) -> None:
    """Seconds of an evaluation forward, batch 1, the networks taking turns."""
    episode = make_episode(1)
    networks = {name: build(name).eval() for name in NETWORKS}
    runs: dict[str, Callable[[], object]] = {name: partial(network, *episode) for name, network in networks.items()}
    runs["ours, default, bfloat16"] = partial(in_bfloat16, networks["ours, default"], episode)
    with torch.inference_mode():
        medians = take_turns(runs, rounds)
        rate, product = matrix_product_rate()
        print(f"matrix product: {rate:.0f} billion multiply-adds a second ({product})")
        print("\nevaluation forward, batch 1            seconds  speed-up   floor")
        for name, seconds in medians.items():
            network = networks.get(name, networks["ours, default"])
            floor = multiply_adds(network, episode) / rate
            print(f"{name:38s} {seconds:7.2f}  {medians[NETWORKS[0]] / seconds:7.2f}x {floor:7.2f}")


def print_training_step(name: str, rounds: int) -> None:
    """One line: median seconds of a step, peak of the tensors' memory, peak of the process."""
    episode = make_episode(4)
    network = build(name).train()

    def step() -> None:
        dice_loss(network(*episode), episode[2][:, 0]).backward()
        network.zero_grad(set_to_none=True)

    seconds = take_turns({name: step}, max(rounds // 2, 2))[name]
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"{name:38s} {seconds:7.2f} {peak_memory(step) / 2**20:6.0f} MiB {process / 2**20:6.0f} MiB", flush=True)


def print_gpu(rounds: int) -> None:
    """Evaluation episodes a second and gigabytes on a GPU, by batch and precision."""
    print(f"\n{torch.cuda.get_device_name()}: episodes a second (GiB)")
    print(f"{'':38s}" + "".join(f"{f'batch {batch}':>20s}" for batch in (1, 8, 32)))
    for name in NETWORKS:
        network = build(name).eval().cuda()
        for title, run, autocast in (
            ("float32", network, False),
            ("bfloat16", network, True),
            ("bfloat16, compiled", torch.compile(network), True),
        ):
            cells = [gpu_cell(run, batch, rounds, autocast=autocast) for batch in (1, 8, 32)]
            print(f"{f'{name}, {title}':38s}" + "".join(f"{cell:>20s}" for cell in cells), flush=True)


def gpu_cell(network: Callable[..., Tensor], batch: int, rounds: int, *, autocast: bool) -> str:
    """``"episodes a second (peak GiB)"``"""
    episode = [tensor.cuda() for tensor in make_episode(batch)]

    def run() -> None:
        with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
            network(*episode)
        torch.cuda.synchronize()

    torch.cuda.reset_peak_memory_stats()
    with torch.inference_mode():
        seconds = take_turns({"": run}, 3 * rounds)[""]
    return f"{batch / seconds:.1f} ({torch.cuda.max_memory_allocated() / 2**30:.1f})"


def build(name: str) -> nn.Module:
    """One of ``NETWORKS`` with random weights."""
    torch.manual_seed(0)
    if name == NETWORKS[0]:
        return PublishedNetwork()
    backbone = build_backbone("resnet50_v2", weights=None, normalize="imagenet", mid_stages=[-3, -2])
    return FSSModel(backbone, support_self_attention=name == NETWORKS[2])


def make_episode(batch: int) -> list[Tensor]:
    """What the networks take, with an object on 18 % of each support: the mean of PASCAL's objects."""
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(batch, 3, SIZE, SIZE, generator=generator)
    supports = torch.randn(batch, 1, 3, SIZE, SIZE, generator=generator)
    masks = torch.zeros(batch, 1, SIZE, SIZE, dtype=torch.int64)
    masks[..., 100:300, 120:320] = 1
    padding = torch.zeros(batch, SIZE, SIZE, dtype=torch.bool)
    return [query, supports, masks, padding, padding[:, None]]


def in_bfloat16(network: nn.Module, episode: Sequence[Tensor]) -> None:
    """A forward under autocast on the CPU."""
    with torch.autocast("cpu", torch.bfloat16):
        network(*episode)


def take_turns(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def matrix_product_rate() -> tuple[float, str]:
    """Billion multiply-adds a second of a large product, as matrices or as a convolution, whichever is faster."""
    a, b = torch.randn(4096, 4096), torch.randn(4096, 4096)
    image, kernels = a.view(1, 4096, 64, 64), b.view(4096, 4096, 1, 1)
    kinds: dict[str, Callable[[], object]] = {
        "torch.mm of 4096 x 4096": lambda: a @ b,
        "the same as a 1x1 convolution": lambda: F.conv2d(image, kernels),
    }
    medians = take_turns(kinds, 3)
    best = min(medians, key=lambda kind: medians[kind])
    return 4096**3 / medians[best] / 1e9, best


def multiply_adds(network: nn.Module, episode: Sequence[Tensor]) -> float:
    """Billions of them in convolutions and matrix products of one forward."""
    with FlopCounterMode(display=False) as counter:
        network(*episode)
    return counter.get_total_flops() / 2e9


def peak_memory(run: Callable[[], object]) -> int:
    """Bytes of all tensors that were made and not yet freed, at their highest during ``run``."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    events = recorded.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    current = highest = 0
    for _, change in changes:
        current += change
        highest = max(highest, current)
    return highest


if __name__ == "__main__":
    main()
