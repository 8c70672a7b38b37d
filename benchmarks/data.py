"""Speed of preparing and loading data, and what a list of COCO's size and one of a million images cost.

    python -m benchmarks.data [--images N ...]      82,081 and 1,000,000 unless said otherwise

One core of an AMD EPYC, torch 2.15, files in the page cache (the machine's speed drifts by a third); at most 10, 3.3,
12 and 25 ms were asked for:

    label PNG from polygons       2.52 ms     397 a second     640x480, seven objects of 30 corners
    label PNG from .mat           1.36 ms     736 a second     SBD's, 500x375
    training image                3.08 ms     325 a second     JPEG and label of 500x375 to a normalised crop of 473x473
    one-shot episode              6.47 ms     155 a second     two of these
    4000x3000, whole             89.08 ms      11 a second     the same image, larger, with its label
    4000x3000, reduced           60.35 ms      17 a second     as a training image of 473x473 is read

The images of the second table are links to 80 files; pseudo masks have four regions an image, with 2,048 channels
in float16 (1.3 and 16 GB). "list" is reading the list and looking for its files, "labels" counting their pixels (two
cores, once), "index" reading the counts, "start" list, index and data set together, with pseudo masks also the sizes of
the files of all images, which their manifest has; imports of some seconds are not in it. Memory is that of a loader's
worker after 200 episodes: all that is resident, most of it shared with the trainer, and what it has for itself ("own").
"neighbours": to find a region's supports where 20 were found as the masks were made, and where they are searched for
among a fiftieth of all regions (``Cluster.neighbours=0``, 50 clusters).

                                list s  labels s  index s  start s  RSS MB  own MB  episode ms  neighbours ms
    torch alone                                                        330       2
    82,081 labelled               1.10     46.32     0.26     1.30     427      30         8.1
    82,081 pseudo                                             1.63     440      33         8.7           0.09
    82,081 pseudo, searched                                   1.63     483      75        76.4          63.09
    1,000,000 labelled           13.43    590.28     4.36    17.86     969      41         9.2
    1,000,000 pseudo                                         22.92    1022      40         9.0           0.09
    1,000,000 pseudo, searched                               22.64    1270      85       839.3         609.70

Drawing an episode does not depend on the number of images; searching does, which is why the default recipe's neighbours
are found beforehand.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from safetensors.numpy import save_file

from episodes.episode import Example, Task, build_episode, read_example
from episodes.label_index import label_areas
from episodes.lists import read_list
from episodes.pseudo import PseudoEpisodes
from episodes.pseudo_files import PseudoFiles
from episodes.supervised import SupervisedEpisodes
from episodes.transforms import TrainTransform
from prepare.coco.annotations import AnnotatedImage, Annotation
from prepare.coco.drawing import draw_label
from prepare.pascal.sbd import decode_sbd_label
from tests.prepare.pascal.voc_downloads import write_sbd_label
from util.array_files import write_array
from util.files import digest_lines, write_json
from util.images import write_image, write_label

REGIONS, CHANNELS, NEIGHBOURS, GROUPS = 4, 2048, 20, 50
COPIES = 80  # of a file that is linked to: file systems allow some 65,000 links to one
EPISODES = 200
CLASSES = tuple(range(1, 81))
Result = TypeVar("Result")
TRANSFORM = TrainTransform(height=473, width=473, scale_range=(0.9, 1.1), rotate_range=(-10, 10), longer_side=473)


def main(arguments: list[str]) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="benchmarks.data", description="Speed and memory of data.")
    parser.add_argument("--images", type=int, nargs="+", default=[82_081, 1_000_000])
    sizes = parser.parse_args(arguments).images
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        print_rates(Path(folder))
    print_row("", "list s", "labels s", "index s", "start s", "RSS MB", "own MB", "episode ms", "neighbours ms")
    print_row("torch alone", *[""] * 4, *in_worker(None))
    for count in sizes:
        with tempfile.TemporaryDirectory() as folder:
            print_full_size(Path(folder), count)


def print_rates(folder: Path) -> None:
    """Milliseconds of one core for each piece of work."""
    example, large = write_example(folder, 500, 375), write_example(folder, 4000, 3000)
    polygons, matlab = some_annotations(), some_matlab_label(folder)
    rng = random.Random(0)
    work: dict[str, tuple[Callable[[], object], int]] = {
        "label PNG from polygons": (lambda: write_label(folder / "a.png", draw_polygons(polygons)), 200),
        "label PNG from .mat": (lambda: write_label(folder / "a.png", decode_sbd_label(matlab, "a.mat")), 200),
        "training image": (lambda: TRANSFORM(*read_example(example, TRANSFORM.useful_side), rng=rng), 200),
        "one-shot episode": (lambda: episode_of(example, rng), 100),
        "4000x3000, whole": (lambda: read_example(large), 10),
        "4000x3000, reduced": (lambda: read_example(large, TRANSFORM.useful_side), 10),
    }
    for name, (piece, repetitions) in work.items():
        piece()
        start = time.process_time()
        for _ in range(repetitions):
            piece()
        seconds = (time.process_time() - start) / repetitions
        sys.stdout.write(f"{name:<26}{seconds * 1000:>8.2f} ms{1 / seconds:>8.0f} a second\n")


def print_full_size(folder: Path, count: int) -> None:
    """A row for labelled episodes, one for pseudo episodes with neighbours found before, one with searching."""
    os.environ["UNSUPFSS_CACHE"] = str(folder / "cache")
    list_file = write_full_size(folder, count)
    write_pseudo_folder(folder / "pseudo", list_file)
    times = index_seconds(list_file)
    start, labelled = timed(lambda: labelled_episodes(list_file))
    print_row(f"{count:,} labelled", *times, f"{start:.2f}", *in_worker(labelled))
    del labelled
    for name, neighbours in (("pseudo", NEIGHBOURS), ("pseudo, searched", 0)):
        write_regions(folder / "pseudo", count, neighbours)
        start, pseudo = timed(partial(pseudo_episodes, list_file, neighbours))
        print_row(f"{count:,} {name}", *[""] * 3, f"{start:.2f}", *in_worker(pseudo))


def index_seconds(list_file: Path) -> list[str]:
    """Seconds to read the list, to count the labels, and to read the counts."""
    list_seconds, images = timed(lambda: read_list(list_file, list_file.parent, need_labels=True))
    label_seconds, _ = timed(lambda: label_areas(images))
    counts_seconds, _ = timed(lambda: label_areas(images))
    return [f"{seconds:.2f}" for seconds in (list_seconds, label_seconds, counts_seconds)]


def in_worker(episodes: SupervisedEpisodes | PseudoEpisodes | None) -> list[str]:
    """Memory of a process like a loader's worker after some episodes, and what they took."""
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.SimpleQueue[list[str]] = context.SimpleQueue()
    process = context.Process(target=draw_episodes, args=(episodes, queue))
    process.start()
    figures = queue.get()
    process.join()
    return figures


def draw_episodes(
    episodes: SupervisedEpisodes | PseudoEpisodes | None, queue: multiprocessing.SimpleQueue[list[str]]
) -> None:
    """What a worker does: tells resident and own megabytes, and milliseconds for an episode and for neighbours."""
    times = ["", ""]
    if episodes is not None:
        seconds, _ = timed(lambda: repeat(lambda index: episodes[(0, index)], range(EPISODES)))
        times[0] = f"{seconds / EPISODES * 1000:.1f}"
    if isinstance(episodes, PseudoEpisodes):
        table, limit = episodes.table, episodes.neighbours
        rows = np.linspace(0, len(table) - 1, EPISODES).astype(int).tolist()
        seconds, _ = timed(lambda: repeat(lambda row: table.neighbours(row, limit), rows))
        times[1] = f"{seconds / EPISODES * 1000:.2f}"
    queue.put([f"{resident:.0f}" for resident in memory()] + times)


def repeat(work: Callable[[int], object], numbers: Iterable[int]) -> None:
    """Do it for each number and keep nothing."""
    for number in numbers:
        work(number)


def memory() -> tuple[float, float]:
    """Megabytes of this process that are resident, and those that no other process has."""
    lines = (line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    kilobytes = {name: int(value) for name, value, _ in lines}
    own = kilobytes["Private_Clean:"] + kilobytes["Private_Dirty:"]
    return kilobytes["Rss:"] / 1024, own / 1024


def labelled_episodes(list_file: Path) -> SupervisedEpisodes:
    """What a supervised training draws from."""
    images = read_list(list_file, list_file.parent, need_labels=True)
    return SupervisedEpisodes(images, CLASSES, shots=1, seed=0, transform=TRANSFORM)


def pseudo_episodes(list_file: Path, neighbours: int) -> PseudoEpisodes:
    """What an unsupervised training draws from."""
    images = read_list(list_file, list_file.parent, need_labels=False)
    images.file_sizes_digest()  # compared with that of the masks' manifest
    folder = list_file.parent / "pseudo"
    return PseudoEpisodes(images, folder, shots=1, seed=0, transform=TRANSFORM, neighbours=neighbours)


def episode_of(example: Example, rng: random.Random) -> object:
    """An episode whose support is its query: as much work as any."""
    return build_episode(Task((0, 0), 1, 0, rng), lambda _: example, transform=TRANSFORM)


def write_example(folder: Path, width: int, height: int) -> Example:
    """An image with as much detail as a real one of 500x375 has, and an object in its label."""
    noise = np.random.default_rng(0).normal(128, 400, (375, 500, 3))
    picture = cv2.GaussianBlur(noise, (0, 0), 2).clip(0, 255).astype(np.uint8)
    label = np.zeros((height, width), dtype=np.uint8)
    label[height // 4 : height // 2, width // 4 : width * 3 // 4] = 1
    example = Example(folder / f"photo_{width}.jpg", folder / f"label_{width}.png", 1)
    write_image(example.image, cv2.resize(picture, (width, height)))
    write_label(example.label, label)
    return example


def some_annotations() -> AnnotatedImage:
    """Seven objects of 30 corners each."""
    angles = np.linspace(0, 2 * np.pi, 30, endpoint=False)
    draw = np.random.default_rng(0)
    annotations = []
    for number in range(7):
        radius = 60 * draw.uniform(0.5, 1.5, 30)
        corners: np.ndarray = draw.uniform(100, 380, 2) + radius[:, None] * np.stack(
            [np.cos(angles), np.sin(angles)], axis=1
        )
        annotations.append(Annotation(number, 1, category=number, crowd=False, segmentation=[corners.ravel()]))
    return AnnotatedImage(id=1, name="a.jpg", height=480, width=640, annotations=annotations)


def draw_polygons(image: AnnotatedImage) -> np.ndarray:
    """The label of an image of COCO."""
    return draw_label(image, {number: number + 1 for number in range(7)}, ignore_crowds=False)


def some_matlab_label(folder: Path) -> bytes:
    """What SBD's ``cls/ID.mat`` holds."""
    label = np.zeros((375, 500), dtype=np.uint8)
    cv2.circle(label, (200, 150), 90, 5, -1)
    cv2.circle(label, (350, 250), 80, 9, -1)
    write_sbd_label(folder / "a.mat", label)
    return (folder / "a.mat").read_bytes()


def write_full_size(folder: Path, count: int) -> Path:
    """A list of ``count`` links to copies of one image, and to labels of three classes each."""
    example = write_example(folder, 500, 375)
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for copy in range(COPIES):
        shutil.copy(example.image, folder / f"{copy}.jpg")
        stripes = [0, *(CLASSES[(copy + shift) % len(CLASSES)] for shift in (0, 7, 19))]
        write_label(folder / f"{copy}.png", np.repeat(np.array(stripes, dtype=np.uint8), 125)[None].repeat(375, axis=0))
    lines = []
    for row in range(count):
        name = f"COCO_train2014_{row:012d}"
        os.link(folder / f"{row % COPIES}.jpg", folder / "images" / f"{name}.jpg")
        os.link(folder / f"{row % COPIES}.png", folder / "labels" / f"{name}.png")
        lines.append(f"images/{name}.jpg labels/{name}.png\n")
    list_file = folder / "train.txt"
    list_file.write_text("".join(lines))
    return list_file


def write_pseudo_folder(folder: Path, list_file: Path) -> None:
    """Masks of four stripes, and which images they are of."""
    folder.mkdir()
    images = [line.split()[0] for line in list_file.read_text().splitlines()]
    for copy in range(COPIES):
        write_label(
            folder / f".{copy}.png", np.repeat(np.arange(REGIONS, dtype=np.uint8), 125)[None].repeat(375, axis=0)
        )
    for row, image in enumerate(images):
        os.link(folder / f".{row % COPIES}.png", folder / f"{Path(image).stem}.png")
    (folder / "images.txt").write_text("".join(f"{image}\n" for image in images))
    write_json(folder / "manifest.json", {"list_digest": digest_lines(sorted(Path(image).stem for image in images))})


def write_regions(folder: Path, images: int, neighbours: int) -> None:
    """The index of all regions; the embeddings are a hole in a file, which is mapped and read like numbers."""
    files, count = PseudoFiles(folder), REGIONS * images
    rows = np.arange(count, dtype=np.int32)
    groups = rows % (1 if neighbours else GROUPS)
    columns = {"image": rows // REGIONS, "region": rows % REGIONS, "group": groups}
    save_file({**columns, "area": np.full_like(rows, 3000)}, files.regions)
    write_array(files.embeddings, [], dtype=np.float16, shape=(count, CHANNELS))
    with files.embeddings.open("r+b") as stream:
        stream.truncate(stream.seek(0, os.SEEK_END) + 2 * count * CHANNELS)
    nearest = np.random.default_rng(0).integers(count, size=(count, neighbours), dtype=np.int32)
    np.save(files.neighbours, nearest)


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """Seconds that ``work`` takes, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def print_row(*cells: str) -> None:
    """One line of the table of full size."""
    first, *others = cells
    sys.stdout.write(f"{first:<28}" + "".join(f"{cell:>14}" for cell in others) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
