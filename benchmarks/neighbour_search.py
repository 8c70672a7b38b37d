"""Finding the neighbours of regions, by torch and by faiss, in one run; `benchmarks.masks` prints this table last.

    python -m benchmarks.neighbour_search [REGIONS ...]

Processor seconds of one thread for one group of so many regions (20,000, 82,000 and 400,000), 20 neighbours each, three
regions an image, 1,024 channels. Where there are more than 8,192 regions, so many of them are searched for, and the
time is that of all in proportion. `lists` is the inverted file, learnt for sizes below its bound too. Embeddings are
drawn such that lists find about as many neighbours as among 22,190 parts of images under MobileNet-V2.

An Intel Xeon with AVX-512, torch 2.14, faiss 1.15, on a machine that was busy with other work:

    regions, processor seconds      torch    faiss    lists learning   recall
    20,000                           11.5      8.5      3.3      1.9   0.9516
    82,000                          156.8    109.6     22.2      6.8   0.9688
    400,000                        3436.5   2493.1    383.1     38.6   0.9508

Before faiss, and with a slower ranking of the candidates, torch took 17.9, 184.7 and 3,726 s (of 8,192, 4,096 and
2,048 regions). Expected were 1.3 times the speed by faiss where all are compared, and 4 to 5 times by lists of 400,000.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from masks.neighbours import FullSearch, InvertedFile, find_faiss
from util.errors import run_command

SIZES = (20_000, 82_000, 400_000)
CHANNELS, LIMIT, REGIONS_PER_IMAGE, MEASURED = 1024, 20, 3, 8192
# Regions of a cluster, the share that all embeddings have in common, and how fast dimensions shrink.
_CLUSTER, _COMMON, _DECAY = 200, 0.27, 0.4


def main(arguments: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("regions", type=int, nargs="*", default=SIZES)
    print_neighbours(parser.parse_args(arguments).regions)


def print_neighbours(sizes: Sequence[int]) -> None:
    """Seconds of torch, of faiss and of an inverted file for groups of these sizes."""
    cpu = torch.device("cpu")
    faiss = find_faiss(cpu)
    print(
        f"{'regions, processor seconds':28s} {'torch':>8s} {'faiss':>8s} {'lists':>8s} {'learning':>8s} {'recall':>8s}"
    )
    torch.set_num_threads(1)
    with threadpool_limits(1):
        for size in sizes:
            image = (np.arange(size) // REGIONS_PER_IMAGE).astype(np.int32)
            full = FullSearch(image, make_embeddings(size), np.arange(size), LIMIT, cpu, faiss)
            by_torch = FullSearch(image, full.embedding, full.members, LIMIT, cpu, None)
            seconds = [_all_seconds(by_torch), _all_seconds(full)]
            start = time.process_time()
            file = InvertedFile.of(full)
            learning = time.process_time() - start
            seconds += [_all_seconds(file), learning]
            columns = "".join(f" {value:8.1f}" for value in seconds)
            print(f"{f'{size:,}':28s}{columns} {file.recall:8.4f}", flush=True)


def make_embeddings(regions: int) -> np.ndarray:
    """Unit vectors (regions, CHANNELS) float16: a common direction, clusters, more or less of a region's own."""
    random = np.random.default_rng(0)
    scale = (np.arange(1, CHANNELS + 1) ** -_DECAY).astype(np.float32)
    scale /= np.linalg.norm(scale)

    def draw(count: int) -> np.ndarray:
        return random.standard_normal((count, CHANNELS), dtype=np.float32) * scale

    common, clusters = _COMMON**0.5 * draw(1), draw(max(1, regions // _CLUSTER))
    embedding = np.empty((regions, CHANNELS), dtype=np.float16)
    for start in range(0, regions, MEASURED):
        part = embedding[start : start + MEASURED]
        own = random.uniform(0, 1 - _COMMON, (len(part), 1)).astype(np.float32)
        vectors = common + np.sqrt(1 - _COMMON - own) * clusters[random.integers(len(clusters), size=len(part))]
        vectors += np.sqrt(own) * draw(len(part))
        part[:] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return embedding


def _all_seconds(search: FullSearch | InvertedFile) -> float:
    """Processor seconds for all regions, from ``MEASURED`` of them."""
    queries = search.order[:MEASURED]
    start = time.process_time()
    for first in range(0, len(queries), 2048):
        search(queries[first : first + 2048])
    return (time.process_time() - start) * len(search.order) / len(queries)


if __name__ == "__main__":
    run_command(main)
