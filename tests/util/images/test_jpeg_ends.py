"""util.images.jpeg_ends: a JPEG that lacks only its end marker, and one that lacks pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from util.errors import UserError
from util.images import decode_image
from util.images.jpeg_ends import with_end
from util.logging import start_logging

ROWS, COLUMNS = np.mgrid[:90, :130]
SMOOTH = np.stack([2 * ROWS, COLUMNS, 240 - 2 * ROWS], axis=-1).astype(np.uint8)
NOISE = np.random.default_rng(0).integers(0, 255, (90, 130, 3), dtype=np.uint8)
BLACK = np.zeros((90, 130, 3), dtype=np.uint8)


def jpeg(pixels: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG", **options)
    return stream.getvalue()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 20}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("pixels", [SMOOTH, NOISE, BLACK])
def test_a_missing_end_marker_alone_is_a_warning(
    pixels: np.ndarray, options: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    start_logging()
    whole = jpeg(pixels, **options)
    assert with_end(whole, "a.jpg") == whole and not capsys.readouterr().err
    assert (decode_image(whole[:-2], "a.jpg") == decode_image(whole, "a.jpg")).all()
    assert capsys.readouterr().err.endswith("a.jpg: JPEG without end marker; its pixels are complete\n")


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 20}])
@pytest.mark.parametrize("pixels", [SMOOTH, NOISE])
@pytest.mark.parametrize("missing", [6, 10, 40, 300])
def test_missing_pixels_are_a_mistake(pixels: np.ndarray, options: dict[str, object], missing: int) -> None:
    with pytest.raises(UserError, match=r"a\.jpg: truncated JPEG \(no end marker\); copy the file again"):
        with_end(jpeg(pixels, **options)[:-missing], "a.jpg")
