"""Images and labels from the downloads' files, each checked before it is used."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prepare.links import is_made
from prepare.pascal.archives import Entry
from prepare.pascal.conversion import DownloadedImage, make_files
from tests.prepare.pascal.voc_downloads import write_sbd_label
from util.errors import UserError
from util.images import read_image, read_label, write_image, write_label

ID = "2007_000001"
IMAGE, LABEL = f"JPEGImages/{ID}.jpg", f"SegmentationClassAug/{ID}.png"


def draw(folder: Path, height: int, width: int, *, sbd: bool = False) -> DownloadedImage:
    rng = np.random.default_rng(0)
    image = Entry(str(folder / "image.jpg"), folder / "image.jpg")
    write_image(folder / "image.jpg", rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    label = folder / ("label.mat" if sbd else "label.png")
    (write_sbd_label if sbd else write_label)(label, rng.integers(0, 21, (height, width), dtype=np.uint8))
    return DownloadedImage(ID, image, Entry(str(label), label))


def make(root: Path, *images: DownloadedImage, longer_side: int | None = None) -> None:
    make_files(images, root, longer_side=longer_side, workers=1)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((375, 500), (281, 375)),
        ((500, 375), (375, 281)),
        ((333, 500), (250, 375)),
        ((500, 500), (375, 375)),
        ((2, 800), (1, 375)),
        ((375, 300), (375, 300)),
    ],
)
def test_longer_sides_shrink_to_375(tmp_path: Path, size: tuple[int, int], expected: tuple[int, int]) -> None:
    make(tmp_path, draw(tmp_path / "in", *size), longer_side=375)
    assert read_image(tmp_path / IMAGE).shape[:2] == read_label(tmp_path / LABEL).shape == expected


def test_shrunk_files_are_what_they_should_be(tmp_path: Path) -> None:
    """Halved, an image is the mean of each 2 x 2 pixels in a JPEG of quality 95; a label keeps its values."""
    downloaded = draw(tmp_path / "in", 40, 60)
    make(tmp_path, downloaded, longer_side=30)
    image = read_image(tmp_path / "in" / "image.jpg").astype(np.float64)
    means = image.reshape(20, 2, 30, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(means).save(stream, "JPEG", quality=95)
    with Image.open(tmp_path / IMAGE) as written, Image.open(stream) as expected:
        assert written.quantization == expected.quantization
        assert np.abs(np.array(written).astype(int) - np.array(expected)).mean() < 4
    label, shrunk = read_label(tmp_path / "in" / "label.png"), read_label(tmp_path / LABEL)
    assert np.all((label.reshape(20, 2, 30, 2) == shrunk[:, None, :, None]).any(axis=(1, 3)))
    with Image.open(tmp_path / LABEL) as written:
        assert written.mode == "P"


def test_labels_of_sbd_become_palette_images(tmp_path: Path) -> None:
    make(tmp_path, draw(tmp_path / "in", 40, 60)._replace(label=draw(tmp_path / "sbd", 40, 60, sbd=True).label))
    with Image.open(tmp_path / LABEL) as written:
        assert written.mode == "P"
    assert np.array_equal(read_label(tmp_path / LABEL), read_label(tmp_path / "in" / "label.png"))
    assert (tmp_path / IMAGE).resolve() == tmp_path / "in" / "image.jpg"


def _cut_image(folder: Path) -> None:
    (folder / "image.jpg").write_bytes((folder / "image.jpg").read_bytes()[:-50])


def _cut_label(folder: Path) -> None:
    (folder / "label.png").write_bytes((folder / "label.png").read_bytes()[:-50])


def _empty_image(folder: Path) -> None:
    (folder / "image.jpg").write_bytes(b"")


def _other_size(folder: Path) -> None:
    write_label(folder / "label.png", np.zeros((41, 60), dtype=np.uint8))


def _colour_label(folder: Path) -> None:
    Image.fromarray(np.zeros((40, 60, 3), dtype=np.uint8)).save(folder / "label.png")


def _unknown_label(folder: Path) -> None:
    write_label(folder / "label.png", np.full((40, 60), 21, dtype=np.uint8))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_cut_image, r"image\.jpg: truncated JPEG"),
        (_empty_image, r"image\.jpg: not a readable image"),
        (_cut_label, r"label\.png: not a readable label"),
        (
            _other_size,
            r"label\.png: the label is 60x41 pixels, but .*image\.jpg is 60x40; make them equal",
        ),
        (_colour_label, r"label\.png: a label must be an 8-bit palette or grey PNG"),
        (_unknown_label, r"label\.png: has the label 21; expected 0 to 20, and 255 for void"),
    ],
)
def test_bad_files_are_named_and_the_others_made(tmp_path: Path, spoil: Callable[[Path], None], message: str) -> None:
    bad, good = draw(tmp_path / "bad", 40, 60), draw(tmp_path / "good", 40, 60)
    spoil(tmp_path / "bad")
    with pytest.raises(UserError, match=message) as error:
        make(tmp_path, bad, good._replace(image_id="2007_000002"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / LABEL).exists()
    assert is_made(tmp_path / LABEL.replace("000001", "000002"))
    with pytest.raises(UserError, match=r" \(and 1 more files\)$"):
        make(tmp_path, bad, bad)


def test_an_existing_image_stays_if_its_size_fits(tmp_path: Path) -> None:
    downloaded = draw(tmp_path / "in", 40, 60)
    write_image(tmp_path / IMAGE, np.zeros((40, 60, 3), dtype=np.uint8))
    make(tmp_path, downloaded)
    assert not read_image(tmp_path / IMAGE).any()
    with pytest.raises(UserError, match=rf"{ID}\.jpg: not 30x20 pixels; remove it or choose another --root"):
        make(tmp_path, downloaded, longer_side=30)
