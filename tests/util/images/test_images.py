"""util.images: files that come back as they were, and odd or broken ones."""

import io
import resource
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from util.errors import UserError
from util.images import (
    IMAGE_SUFFIXES,
    check_same_size,
    complete_image_size,
    decode_image,
    decode_label,
    image_size,
    read_image,
    read_label,
    voc_colours,
    write_image,
    write_label,
)


@pytest.fixture
def image() -> np.ndarray:
    """RGB uint8 (40, 60, 3): smooth, so that JPEG keeps it, and different in each channel."""
    rows, columns = np.mgrid[:40, :60]
    return np.stack([6 * rows, 4 * columns, 240 - 6 * rows], axis=-1).astype(np.uint8)


def jpeg(image: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="JPEG", quality=95, **options)
    return stream.getvalue()


def test_a_label_of_another_size_than_its_image_is_named() -> None:
    check_same_size(Path("a.jpg"), (30, 40), Path("a.png"), (30, 40))
    with pytest.raises(UserError) as error:
        check_same_size("a.jpg", (30, 40), "a.png", (40, 30))
    assert str(error.value) == "a.png: the label is 30x40 pixels, but a.jpg is 40x30; make them equal"


def test_label_comes_back_with_its_palette(tmp_path: Path) -> None:
    label = np.arange(256, dtype=np.uint8).reshape(8, 32)
    write_label(tmp_path / "label.png", label)
    assert (read_label(tmp_path / "label.png") == label).all()
    with Image.open(tmp_path / "label.png") as image:
        assert image.mode == "P"
        assert image.getpalette() == voc_colours().flatten().tolist()


def test_voc_colours_are_those_of_the_development_kit() -> None:
    colours = voc_colours()
    assert colours[[0, 1, 15, 20, 255]].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [192, 128, 128],
        [0, 64, 128],
        [224, 224, 192],
    ]


def test_grey_label_is_read_by_value(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 5), 7, dtype=np.uint8)).save(tmp_path / "label.png")
    assert (read_label(tmp_path / "label.png") == 7).all()


@pytest.mark.parametrize("pixels", [np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.uint16), np.zeros((4, 5), bool)])
def test_label_of_another_kind_is_refused(tmp_path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(tmp_path / "label.png")
    with pytest.raises(UserError, match=r"label\.png: a label must be an 8-bit palette or grey PNG"):
        read_label(tmp_path / "label.png")


def test_image_comes_back(tmp_path: Path, image: np.ndarray) -> None:
    write_image(tmp_path / "image.png", image)
    assert (read_image(tmp_path / "image.png") == image).all()


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_every_suffix_is_read_with_its_size(tmp_path: Path, image: np.ndarray, suffix: str) -> None:
    one_channel = suffix in (".pgm", ".pbm")
    _, data = cv2.imencode(".jpg" if suffix == ".jfif" else suffix, image[..., 0] if one_channel else image[..., ::-1])
    path = tmp_path / f"image{suffix}"
    path.write_bytes(data.tobytes())
    pixels = read_image(path)
    assert pixels.dtype == np.uint8 and pixels.shape == (40, 60, 3) and image_size(path) == (40, 60)
    expected = image[..., :1] if one_channel else image
    if suffix != ".pbm":  # black and white
        assert np.abs(pixels.astype(int) - expected).mean() < 40  # a GIF has few colours


def test_the_usual_suffixes_are_read() -> None:
    assert {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"} <= set(IMAGE_SUFFIXES)


def test_grey_16_bit_and_alpha_become_rgb(tmp_path: Path, image: np.ndarray) -> None:
    grey = image[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    cv2.imwrite(str(tmp_path / "deep.png"), grey.astype(np.uint16) * 257)
    Image.fromarray(np.dstack([image, grey])).save(tmp_path / "alpha.png")
    assert (read_image(tmp_path / "grey.png") == grey[..., None]).all()
    assert (read_image(tmp_path / "deep.png") == grey[..., None]).all()
    assert (read_image(tmp_path / "alpha.png") == image).all()


def test_cmyk_jpeg_becomes_rgb(tmp_path: Path, image: np.ndarray) -> None:
    Image.fromarray(image).convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    read = read_image(tmp_path / "print.jpg")
    assert read.shape == image.shape
    assert np.abs(read.astype(int) - image).mean() < 10


def test_turned_image_has_one_size(tmp_path: Path, image: np.ndarray) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    (tmp_path / "turned.jpg").write_bytes(jpeg(image, exif=exif))
    assert image_size(tmp_path / "turned.jpg") == read_image(tmp_path / "turned.jpg").shape[:2] == (60, 40)


@pytest.mark.parametrize(
    ("useful_side", "side"), [(None, 240), (500, 240), (81, 240), (80, 120), (41, 120), (40, 60), (20, 30), (1, 30)]
)
def test_a_jpeg_is_read_at_a_fraction_that_keeps_enough_pixels(
    tmp_path: Path, image: np.ndarray, useful_side: int | None, side: int
) -> None:
    large = cv2.resize(image, (240, 160), interpolation=cv2.INTER_CUBIC)
    (tmp_path / "large.jpg").write_bytes(jpeg(large))
    read = read_image(tmp_path / "large.jpg", useful_side)
    assert read.shape == (side * 2 // 3, side, 3)
    expected = cv2.resize(large, (side, side * 2 // 3), interpolation=cv2.INTER_AREA)
    assert np.abs(read.astype(int) - expected).mean() < 6


def test_other_formats_and_turned_jpegs_keep_their_shape(tmp_path: Path, image: np.ndarray) -> None:
    write_image(tmp_path / "image.png", image)
    assert (read_image(tmp_path / "image.png", 10) == image).all()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    (tmp_path / "turned.jpg").write_bytes(jpeg(image, exif=exif))
    assert read_image(tmp_path / "turned.jpg", 20).shape == (30, 20, 3)


@pytest.mark.parametrize("progressive", [False, True])
def test_truncated_jpeg_is_refused(tmp_path: Path, image: np.ndarray, progressive: bool) -> None:
    content = jpeg(image, progressive=progressive)
    (tmp_path / "cut.jpg").write_bytes(content[: 2 * len(content) // 3])
    with pytest.raises(UserError, match=r"cut\.jpg: truncated JPEG"):
        read_image(tmp_path / "cut.jpg")


def test_thumbnail_does_not_hide_a_truncation(tmp_path: Path, image: np.ndarray) -> None:
    """Camera files hold a whole small JPEG, end marker included, before their pixels."""
    content = jpeg(image)
    thumbnail = jpeg(image[::4, ::4])
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    content = content[:2] + segment + content[2:]
    (tmp_path / "whole.jpg").write_bytes(content)
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) - 100])
    assert read_image(tmp_path / "whole.jpg").shape == image.shape
    with pytest.raises(UserError, match="truncated JPEG"):
        read_image(tmp_path / "cut.jpg")


@pytest.mark.parametrize("length", [0, 1, 2, 3, 5, 30, 200])
def test_any_beginning_of_a_jpeg_is_one_clear_error(tmp_path: Path, image: np.ndarray, length: int) -> None:
    (tmp_path / "cut.jpg").write_bytes(jpeg(image)[:length])
    with pytest.raises(UserError, match=r"cut\.jpg: (truncated JPEG|not a readable image)"):
        read_image(tmp_path / "cut.jpg")


def test_bytes_after_the_end_marker_do_no_harm(tmp_path: Path, image: np.ndarray) -> None:
    (tmp_path / "image.jpg").write_bytes(jpeg(image) + b"maker's note" * 100)
    assert read_image(tmp_path / "image.jpg").shape == image.shape


def test_truncated_png_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    write_label(tmp_path / "label.png", noise)
    content = (tmp_path / "label.png").read_bytes()
    (tmp_path / "label.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"label\.png: not a readable label"):
        read_label(tmp_path / "label.png")


def test_files_in_memory_are_read_alike(tmp_path: Path, image: np.ndarray) -> None:
    write_image(tmp_path / "image.jpg", image)
    write_label(tmp_path / "label.png", image[..., 0])
    jpeg_file, png_file = (tmp_path / "image.jpg").read_bytes(), (tmp_path / "label.png").read_bytes()
    assert np.array_equal(decode_image(jpeg_file, "a name"), read_image(tmp_path / "image.jpg"))
    assert np.array_equal(decode_label(png_file, "a name"), image[..., 0])
    assert complete_image_size(jpeg_file, "a name") == image_size(tmp_path / "image.jpg") == image.shape[:2]
    for decode, data, problem in (
        (decode_image, jpeg_file[:-9], "truncated JPEG"),
        (complete_image_size, jpeg_file[:-9], "truncated JPEG"),
        (complete_image_size, b"text", "not a readable image"),
        (decode_label, png_file[:-40], "not a readable label"),
        (decode_label, png_file[:8] + b"\0\0\0\x02IHDR" + png_file[16:], "not a readable label"),
    ):
        with pytest.raises(UserError, match=f"^a name: {problem}"):
            decode(data, "a name")


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path: Path, image: np.ndarray) -> None:
    _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        for write, path, values in (
            (write_image, tmp_path / "image.jpg", image),
            (write_label, tmp_path / "label.png", image[..., 0]),
        ):
            with pytest.raises(OSError) as error:
                write(path, values)
            assert error.value.filename == str(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_a_side_that_a_format_cannot_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"wide\.jpg: 70000 x 1 pixels are too many for this format"):
        write_image(tmp_path / "wide.jpg", np.zeros((1, 70_000, 3), dtype=np.uint8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("read", [read_image, read_label, image_size])
def test_missing_file_and_text_file_are_named(tmp_path: Path, read: object) -> None:
    assert callable(read)
    (tmp_path / "text.png").write_text("no image")
    for name in ("missing.png", "text.png"):
        with pytest.raises(UserError, match=name.replace(".", r"\.")):
            read(tmp_path / name)
