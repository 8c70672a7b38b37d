"""Speed of making pseudo masks next to the plain serial recipe, in one run.

    python -m benchmarks.masks ROOT DATASET [key=value ...]      arguments as for masks/create.sh

The parts: superpixels by scikit-image; the vote as a loop over superpixels; the best id at each pixel by enlarging all
scores; region embeddings by enlarging 2,048 channels. Medians on one core, the sides taking turns, images scaled
to 375x500. The whole: the recipe ``global`` as the published code walks through it, one image after the other and
with all cores for each network call, on ``--plain`` images; ours on ``--ours`` images by all cores, and with
one thread by one process and by two. The start of the command (imports, weights) does not count. Last, the neighbours
of regions, in groups of ``--regions``: the table of ``benchmarks.neighbour_search``, which runs alone too.

MobileNet-V2 on ``lists/voc_mini/train_all.txt`` (longer side 375 pixels), two cores of an AMD EPYC, torch 2.15:

    one core, milliseconds                           ours    plain  speed-up
    superpixels of 20 images (cpu)                 287.05  2994.71     10.4x
    vote of 89 superpixels, 50 ids                   0.52     4.59      8.8x
    best of 50 ids at each pixel                     4.13   101.32     24.5x
    embeddings of 2 regions, 2048 channels           1.95  3405.12   1743.0x

    the whole, milliseconds per image
    plain serial recipe                             318.4
    ours, all cores                                  42.5      7.5x
    ours, one process of one thread                  76.3      4.2x
    ours, two processes of one thread                44.1      7.2x

Most of what an image takes on one core are three passes through the network (one to cluster, one to compare, one of
the whole image for the embeddings: 75 of 93 ms on a slower day), superpixels 13: the passes are the floor.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.cluster import KMeans
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.model import take_turns
from benchmarks.neighbour_search import print_neighbours
from episodes.lists import ImageList, read_list, write_list
from episodes.transforms import content_size
from masks import superpixels
from masks.assign import label_map, vote
from masks.build import region_filter
from masks.command_line import choose_config
from masks.recipes.clusters import ClusterRecipe
from masks.regions import mask_pool
from model.frozen.timm_networks import normalization
from model.weights import load_tensors, read_tensors
from util.config.schema import Config
from util.errors import run_command
from util.files import PROJECT
from util.images import read_image

HEIGHT, WIDTH, SUPERPIXELS, CLUSTERS = 375, 500, 89, 50
CHANNELS, ROWS, COLUMNS = 2048, 15, 20


def main(arguments: list[str]) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("dataset")
    parser.add_argument("settings", nargs="*")
    parser.add_argument("--plain", type=int, default=48, help="images for the plain recipe (%(default)s)")
    parser.add_argument("--ours", type=int, default=480, help="images for ours (%(default)s)")
    parser.add_argument("--regions", type=int, nargs="*", default=[20_000], help="sizes of groups (%(default)s)")
    parsed = parser.parse_intermixed_args(arguments)
    config = choose_config(parsed.root, parsed.dataset, [*parsed.settings, "Cluster.recipe=global"])
    images = read_list(config.DATA.train_list, config.DATA.data_root, need_labels=False)
    print_parts(images)
    plain = time_plain(config, images, parsed.plain)
    print(f"\nthe whole, milliseconds per image\n{'plain serial recipe':44s} {plain:8.1f}")
    command = [str(parsed.root), parsed.dataset, *parsed.settings, "Cluster.recipe=global"]
    for title, processes, further in (
        ("ours, all cores", 1, []),
        ("ours, one process of one thread", 1, ["Cluster.threads=1"]),
        ("ours, two processes of one thread", 2, ["Cluster.threads=1"]),
    ):
        ours = time_ours([*command, *further], images, parsed.ours, processes)
        print(f"{title:44s} {ours:8.1f} {plain / ours:8.1f}x")
    print()
    print_neighbours(parsed.regions)


def print_parts(images: ImageList) -> None:
    """Milliseconds of each part, ours and plain, on one core."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rows = np.linspace(0, len(images) - 1, 20).astype(int).tolist()
    pixels = [cv2.resize(read_image(images.image_path(row)), (WIDTH, HEIGHT)) for row in rows]
    random = np.random.default_rng(0)
    scores = cv2.resize(random.normal(size=(4, 5, CLUSTERS)).astype(np.float32), (COLUMNS, ROWS)).transpose(2, 0, 1)
    labels = label_map(np.ascontiguousarray(scores), HEIGHT, WIDTH)
    segments = (np.arange(HEIGHT * WIDTH, dtype=np.int32) * SUPERPIXELS // (HEIGHT * WIDTH)).reshape(HEIGHT, WIDTH)
    regions = [np.kron(np.eye(2, dtype=bool)[place], np.ones((HEIGHT, WIDTH // 2), bool)) for place in range(2)]
    features = random.normal(size=(CHANNELS, ROWS, COLUMNS)).astype(np.float32)
    print(f"{'one core, milliseconds':44s}     ours    plain  speed-up")
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        f"superpixels of {len(pixels)} images ({superpixels.backend()})": (
            lambda: [superpixels.felzenszwalb(image) for image in pixels],
            lambda: [superpixels.reference.felzenszwalb(image, 100.0, 0.8, 200) for image in pixels],
        ),
        f"vote of {SUPERPIXELS} superpixels, {CLUSTERS} ids": (
            partial(vote, labels, segments, CLUSTERS),
            partial(plain_vote, labels, segments, CLUSTERS),
        ),
        f"best of {CLUSTERS} ids at each pixel": (
            partial(label_map, scores, HEIGHT, WIDTH),
            partial(plain_label_map, scores),
        ),
        f"embeddings of {len(regions)} regions, {CHANNELS} channels": (
            partial(mask_pool, features, regions),
            partial(plain_pool, features, regions),
        ),
    }
    for title, (ours, plain) in pairs.items():
        seconds = take_turns({"ours": ours, "plain": plain}, 7)
        milliseconds = "".join(f" {1e3 * value:8.2f}" for value in seconds.values())
        print(f"{title:44s}{milliseconds} {seconds['plain'] / seconds['ours']:8.1f}x")


def plain_vote(labels: np.ndarray, segments: np.ndarray, k: int) -> np.ndarray:
    """A pass over the image for each superpixel."""
    voted = labels.copy()
    for segment in range(segments.max() + 1):
        inside = segments == segment
        voted[inside] = np.bincount(labels[inside], minlength=k).argmax()
    return voted


def plain_label_map(scores: np.ndarray) -> np.ndarray:
    """All scores at every pixel, then the best."""
    enlarged = F.interpolate(torch.from_numpy(scores)[None], (HEIGHT, WIDTH), mode="bilinear", align_corners=True)
    return enlarged[0].argmax(dim=0).numpy()


def plain_pool(features: np.ndarray, regions: Sequence[np.ndarray]) -> np.ndarray:
    """All channels at every pixel, then the means."""
    enlarged = F.interpolate(torch.from_numpy(features)[None], regions[0].shape, mode="bilinear", align_corners=True)
    return np.stack([enlarged[0][:, torch.from_numpy(region)].mean(dim=1).numpy() for region in regions])


def time_plain(config: Config, images: ImageList, count: int) -> float:
    """Milliseconds per image of the plain serial recipe with the extractor of ``config``, a timm model."""
    torch.set_num_threads(os.cpu_count() or 1)
    plain = _Plain(config)
    rows = np.linspace(0, len(images) - 1, count).astype(int).tolist()
    plain.features(plain.padded(read_image(images.image_path(rows[0])), config.Cluster.assign_size))  # warms up
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        centroids = plain.cluster([read_image(images.image_path(row)) for row in tqdm(rows, desc="plain, clustering")])
        for row in tqdm(rows, desc="plain, masks"):
            plain.segment(read_image(images.image_path(row)), centroids, Path(folder) / f"{row}.png")
    return 1e3 * (time.perf_counter() - start) / count


class _Plain:
    """The recipe as one writes it down: an image at a time, every map at full size, every region by itself."""

    def __init__(self, config: Config) -> None:
        cluster = config.Cluster
        assert cluster.extractor_weights is not None
        name = cluster.extractor.removeprefix("timm:")
        stride = cluster.stride or ClusterRecipe.stride(config.Cluster)
        self.network: nn.Module = timm.create_model(name, features_only=True, output_stride=stride).eval()
        load_tensors(self.network, read_tensors(cluster.extractor_weights), name=name)
        mean, std = normalization(cluster.extractor_normalize or "timm", name)
        self.mean, self.std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
        self.config = config

    @torch.no_grad()
    def features(self, image: np.ndarray) -> Tensor:
        pixels = (torch.from_numpy(image).permute(2, 0, 1).float() / 255 - self.mean) / self.std
        return F.normalize(self.network(pixels[None])[-1], dim=1)

    def padded(self, image: np.ndarray, size: int) -> np.ndarray:
        height, width = content_size(image.shape[0], image.shape[1], size)
        square = np.zeros((size, size, 3), dtype=np.uint8)
        square[:height, :width] = cv2.resize(image, (width, height))
        return square

    def cluster(self, images: Sequence[np.ndarray]) -> Tensor:
        size, seed, k = (getattr(self.config.Cluster, key) for key in ("cluster_size", "seed", "cluster_num"))
        maps = [self.features(self.padded(image, size)).flatten(2)[0].T.numpy() for image in images]
        features = np.concatenate(maps)
        clustering = KMeans(k, init="random", n_init=1, max_iter=30, random_state=seed).fit(features)
        return torch.from_numpy(clustering.cluster_centers_)

    def segment(self, image: np.ndarray, centroids: Tensor, path: Path) -> None:
        height, width = image.shape[:2]
        features = self.features(self.padded(image, self.config.Cluster.assign_size))[0]
        scores = -torch.cdist(features.flatten(1).T, centroids).T.reshape(len(centroids), *features.shape[1:])
        enlarged = F.interpolate(scores[None], (height, width), mode="bilinear", align_corners=True)
        labels = enlarged[0].argmax(dim=0).numpy()
        labels = plain_vote(labels, superpixels.reference.felzenszwalb(image, 100, 0.8, 200), len(centroids))
        Image.fromarray(labels.astype(np.uint8)).save(path)
        objects = region_filter(self.config)
        regions = [labels == region for region in np.unique(labels)]
        kept = [region for region in regions if region.sum() >= objects.min_area and not objects.is_background(region)]
        if kept:
            plain_pool(self.features(image)[0].numpy(), kept)


def time_ours(command: list[str], images: ImageList, count: int, processes: int) -> float:
    """Milliseconds per image of the command with these arguments on ``count`` images, without its start."""
    seconds = []
    for size in (processes, count):  # the shorter run is the start: imports and weights
        with tempfile.TemporaryDirectory() as folder:
            rows = np.linspace(0, len(images) - 1, size).astype(int)
            write_list(Path(folder) / "list.txt", [(images.images[row], None) for row in rows])
            own = [f"list={folder}/list.txt", f"Cluster.pseudo_folder={folder}/pseudo", "DATA.min_area=1"]
            launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
            module = [*(launcher if processes > 1 else []), "-m", "masks.create"]
            seconds.append(_run([sys.executable, *module, *command, *own]))
    return 1e3 * (seconds[1] - seconds[0]) / (count - processes)


def _run(command: list[str], **options: Any) -> float:
    start = time.perf_counter()
    subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    return time.perf_counter() - start


if __name__ == "__main__":
    run_command(main)
