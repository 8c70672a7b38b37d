"""Labels that may not be opened: however, whoever and by whatever name."""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import Dataset

from episodes.closed_labels import OpenedLabelError, closed_labels, in_worker, read_pairs
from episodes.episode import Episode
from episodes.label_index import label_areas
from episodes.lists import ImageList
from episodes.loaders import make_loader
from episodes.pseudo import PseudoEpisodes
from tests.episodes.drawn_images import TRAIN
from tests.tracked_files import relative, tracked_files
from util.files import PROJECT, digest_file
from util.images import image_size, read_image, read_label

WAYS: dict[str, Callable[[Path], Any]] = {
    "read_label": read_label,
    "read_image": read_image,
    "image_size": image_size,
    "open": open,
    "os.open": lambda path: os.open(path, os.O_RDONLY),
    "bytes of its name": lambda path: open(os.fsencode(path)),
    "read_bytes": Path.read_bytes,
    "fromfile": lambda path: np.fromfile(path, dtype=np.uint8),
    "memmap": lambda path: np.memmap(path, dtype=np.uint8),
    "Pillow": Image.open,
    "digest_file": digest_file,
}
# Readers of files in C and C++, of which Python learns nothing; those of safetensors read nothing else.
NATIVE = r"cv2\.(imread|imcount|VideoCapture|FileStorage)|torchvision\.io|\.from_file\(|ctypes"


def pairs(images: ImageList) -> Iterator[tuple[str, str | None]]:
    return zip(images.images, images.labels, strict=True)


def assert_refused(path: Path, open_file: Callable[[Path], Any] = Path.read_bytes) -> None:
    with pytest.raises(
        OpenedLabelError, match=rf"^{re.escape(str(path))}: a label, and an unsupervised run opens none"
    ):
        open_file(path)


@pytest.mark.parametrize("way", WAYS)
def test_a_closed_label_is_opened_in_no_way(images: ImageList, way: str) -> None:
    with closed_labels(images.root, pairs(images)):
        assert_refused(images.label_path(3), WAYS[way])
        images.image_path(3).read_bytes()
    WAYS[way](images.label_path(3))


def test_a_closed_label_is_opened_by_no_name(images: ImageList, monkeypatch: pytest.MonkeyPatch) -> None:
    label = images.label_path(3)
    (images.root / "symbolic.png").symlink_to(label)
    (images.root / "hard.PNG").hardlink_to(label)
    (images.root / "folder").symlink_to(label.parent)
    unlisted = label.with_name("unlisted.png")
    unlisted.write_bytes(label.read_bytes())
    monkeypatch.chdir(label.parent)
    names = ["symbolic.png", "hard.PNG", f"folder/{label.name}", f"pseudo/../{label.parent.name}/{label.name}"]
    (images.root / "pseudo").mkdir()
    with closed_labels(images.root, pairs(images)):
        for path in (unlisted, Path(label.name), Path("unlisted.png"), *(images.root / name for name in names)):
            assert_refused(path)


def test_what_stays_open(images: ImageList, pseudo_folder: Path) -> None:
    """Images, in a folder with their labels too, what is no label, pseudo masks, labels of lists that are read."""
    beside = images.image_path(0).with_name("a.png")
    beside.write_bytes(images.label_path(0).read_bytes())
    text = images.label_path(0).with_name("notes.txt")
    text.write_text("notes")
    pseudo_mask = pseudo_folder / "photo_00.png"
    relative_mask = str(pseudo_mask.relative_to(images.root))
    listed = list(pairs(images))
    closed = [*listed[:-1], (images.images[0], "JPEGImages/a.png"), (images.images[0], relative_mask)]
    with closed_labels(images.root, closed, opened=listed[-1:], masks=pseudo_folder):
        assert_refused(beside)
        for path in (images.image_path(0), images.list_file, text, pseudo_mask, images.label_path(len(images) - 1)):
            path.read_bytes()
        assert_refused(images.label_path(0))
    with closed_labels(images.root, [(images.images[0], images.images[0])]):
        images.image_path(0).read_bytes()


def test_what_was_counted_once_is_closed_too(images: ImageList) -> None:
    label_areas(images)
    with closed_labels(images.root, pairs(images)), pytest.raises(OpenedLabelError):
        label_areas(images)


def test_a_list_that_is_not_used_may_be_damaged_or_missing(images: ImageList, tmp_path: Path) -> None:
    assert list(read_pairs(images.list_file, images.root)) == list(pairs(images))
    for content in (b"\xff\xfe\x00", b"", b"one two three four\n"):
        (tmp_path / "list.txt").write_bytes(content)
        assert list(read_pairs(tmp_path / "list.txt", images.root)) == []
    assert list(read_pairs(tmp_path / "missing.txt", images.root)) == []


class Curious(Dataset[Episode]):
    """Tries to read the label of every query in every way, then for good."""

    def __init__(self, episodes: PseudoEpisodes) -> None:
        self.episodes = episodes

    def __getitem__(self, key: tuple[int, int]) -> Episode:
        label = self.episodes.images.label_path(self.episodes[key]["query_index"])
        for open_file in WAYS.values():
            assert_refused(label, open_file)
        read_label(label)
        return self.episodes[key]


@pytest.mark.parametrize("workers", [0, 2])
def test_no_worker_opens_a_closed_label(images: ImageList, pseudo_folder: Path, workers: int) -> None:
    """The error keeps its kind, so nothing takes it for a mistake of the user's."""
    episodes = Curious(PseudoEpisodes(images, pseudo_folder, shots=1, seed=5, transform=TRAIN))
    with closed_labels(images.root, pairs(images)):
        loader = make_loader(episodes, epoch=0, episodes=4, batch_size=2, workers=workers, drop_last=False)
        with pytest.raises(OpenedLabelError, match=r"SegmentationClassAug/photo_\d\d\.png: a label"):
            list(loader)


def try_to_open(path: Path, worker: int) -> None:
    for open_file in WAYS.values():
        assert_refused(path, open_file)


@pytest.mark.slow
def test_a_worker_that_is_not_forked_opens_no_closed_label(images: ImageList) -> None:
    start = partial(try_to_open, images.label_path(0))
    with closed_labels(images.root, pairs(images)):
        worker = multiprocessing.get_context("spawn").Process(target=in_worker(start), args=(0,))
        worker.start()
    worker.join()
    assert worker.exitcode == 0


def test_files_are_opened_by_python() -> None:
    """What native code opens by itself cannot be refused."""
    sources = [
        path for path in tracked_files(".py") if path.relative_to(PROJECT).parts[0] not in ("tests", "benchmarks")
    ]
    assert len(sources) > 100
    assert not [relative(path) for path in sources if re.search(NATIVE, path.read_text(encoding="utf-8"))]
