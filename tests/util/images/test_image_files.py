"""util.images.image_files: headers, EXIF's orientation, the bound on pixels, files that are none."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, features

from util.errors import UserError
from util.images import image_size, read_image, read_label
from util.images.image_files import PIXEL_LIMIT, turn

# Four quarters in different colours: (40, 60, 3) uint8.
QUARTERS = np.zeros((40, 60, 3), dtype=np.uint8)
QUARTERS[:20, :30], QUARTERS[:20, 30:], QUARTERS[20:, :30], QUARTERS[20:, 30:] = (200, 30, 30), (30, 200, 30), 40, 220
# Where each orientation, 1 to 8, puts pixel (row, column) = (0, 0), (0, 1) and (1, 0) of the file: EXIF's definition.
TURNED = {
    1: lambda pixels: pixels,
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: np.swapaxes(pixels, 0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.swapaxes(np.rot90(pixels, 2), 0, 1),
    8: lambda pixels: np.rot90(pixels, 1),
}
FORMATS: dict[str, dict[str, object]] = {
    "JPEG.jpg": {"quality": 95},
    "PNG.png": {},
    "TIFF.tif": {},
    "TIFF.lzw.tif": {"compression": "tiff_lzw"},
    "WEBP.webp": {"lossless": True},
    "AVIF.avif": {"quality": 95},
}
EXIF_FORMATS = [name for name in FORMATS if name != "AVIF.avif" or features.check("avif")]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", EXIF_FORMATS)
def test_pixels_and_size_are_turned_alike(tmp_path: Path, name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / name
    Image.fromarray(QUARTERS).save(path, format=name.split(".")[0], exif=exif, **FORMATS[name])
    expected = TURNED[orientation](QUARTERS)
    pixels = read_image(path)
    assert image_size(path) == pixels.shape[:2] == expected.shape[:2]
    assert np.abs(pixels.astype(int) - expected).mean() < 5
    if orientation >= 5:
        assert read_image(path, 20).shape[0] > read_image(path, 20).shape[1]


@pytest.mark.parametrize("orientation", TURNED)
def test_turning_is_exifs(orientation: int) -> None:
    pixels = np.arange(24).reshape(4, 6)
    assert (turn(pixels, orientation) == TURNED[orientation](pixels)).all()


def test_an_orientation_may_be_a_byte(tmp_path: Path) -> None:
    """The type of a number in EXIF differs between programs; decoders look at its value only."""
    Image.fromarray(QUARTERS).save(tmp_path / "a.tif", tiffinfo={274: 6})
    data = (tmp_path / "a.tif").read_bytes()
    short, byte = (struct.pack("<HHI", 274, kind, 1) for kind in (3, 1))
    assert data.count(short) == 1
    (tmp_path / "a.tif").write_bytes(data.replace(short, byte))
    assert image_size(tmp_path / "a.tif") == read_image(tmp_path / "a.tif").shape[:2] == (60, 40)


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "options",
    [
        {"exif": b"Exif\0\0a text, no EXIF"},
        {"exif": b"a text"},
        {"exif": b"Exif\0\0II*\0\xff\xff\xff\xff"},
        {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0six\0\0\0\0\0"},
        {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x2a\0\0\0\0\0\0\0"},
        {"xmp": XMP},
    ],
)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_what_only_resembles_an_orientation_turns_nothing(
    tmp_path: Path, suffix: str, options: dict[str, bytes]
) -> None:
    if suffix == ".png" and "exif" in options:
        options = {"exif": options["exif"].removeprefix(b"Exif\0\0")}
    path = tmp_path / f"image{suffix}"
    Image.fromarray(QUARTERS).save(path, **options)  # type: ignore[arg-type]
    assert read_image(path).shape == (40, 60, 3) and image_size(path) == (40, 60)


def png(width: int, height: int, *, depth: int = 8) -> bytes:
    """A PNG of this size, whatever its pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1 << 16)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("read", [read_image, read_label, image_size])
@pytest.mark.parametrize("size", [(30_000, 30_000), (50_000, 50_000), (1 << 31, 1), (PIXEL_LIMIT // 1024 + 1, 1024)])
def test_too_many_pixels_are_refused_before_they_are_decoded(
    tmp_path: Path, read: object, size: tuple[int, int]
) -> None:
    assert callable(read)
    (tmp_path / "large.png").write_bytes(png(*size))
    with pytest.raises(UserError, match=r"large\.png: (\d+ x \d+ pixels, at most 268,435,456 are read|not a readable)"):
        read(tmp_path / "large.png")


def test_as_many_pixels_as_allowed_are_no_reason_to_refuse(tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(png(PIXEL_LIMIT // 1024, 1024, depth=1))
    assert image_size(tmp_path / "large.png") == (1024, PIXEL_LIMIT // 1024)


@pytest.mark.parametrize("read", [read_image, read_label])
def test_folders_pipes_and_devices_are_no_files(tmp_path: Path, read: object) -> None:
    assert callable(read)
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "folder.png", tmp_path / "pipe.png", Path("/dev/zero")):
        with pytest.raises(UserError, match=f"{path}: not a file; give (image|label)s as files"):
            read(path)


@pytest.mark.parametrize("suffix", [".psd", ".dds", ".ico", ".pcx", ".tga"])
def test_other_formats_are_refused_whatever_pillow_knows(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(QUARTERS[..., 0]).convert("RGB" if suffix == ".dds" else "L").save(tmp_path / "a.png")
    if suffix != ".psd":
        Image.open(tmp_path / "a.png").save(tmp_path / f"a{suffix}")
        (tmp_path / f"a{suffix}").rename(tmp_path / "a.png")
    else:
        (tmp_path / "a.png").write_bytes(b"8BPS\0\x01" + bytes(40))
    for read in (read_image, read_label, image_size):
        with pytest.raises(UserError, match=r"a\.png: not a readable"):
            read(tmp_path / "a.png")
