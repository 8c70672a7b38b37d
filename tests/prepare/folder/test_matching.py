"""prepare.folder.matching: names as they are written, as macOS writes them, and in another case."""

import unicodedata
from pathlib import Path

import pytest

from prepare.folder.matching import match_names

COMPOSED, APART = (unicodedata.normalize(form, "b/caf\u00e9") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("wanted", "files", "expected"),
    [
        (["a", "b"], ["a", "c"], {"a": "a"}),
        ([COMPOSED], [APART], {COMPOSED: APART}),
        ([APART], [COMPOSED], {APART: COMPOSED}),
        ([APART, COMPOSED], [COMPOSED, APART], {APART: APART, COMPOSED: COMPOSED}),
        (["IMG_1", "img_2"], ["img_1", "IMG_2"], {"IMG_1": "img_1", "img_2": "IMG_2"}),
        (["IMG_1"], ["img_1", "Img_1"], {}),  # either may be meant
        (["IMG_1", "img_1"], ["Img_1"], {}),
        (["IMG_1", "img_1"], ["img_1"], {"img_1": "img_1"}),
        (["IMG_1", "img_1"], ["img_1", "Img_1"], {"img_1": "img_1", "IMG_1": "Img_1"}),
        (["A/x"], ["a/X"], {"A/x": "a/X"}),
        (["a/x"], ["b/x"], {}),
    ],
)
def test_names_that_mean_one_image_match(wanted: list[str], files: list[str], expected: dict[str, str]) -> None:
    found = match_names([Path(name) for name in wanted], {Path(name): Path("masks", name) for name in files})
    assert found == {Path(name): Path("masks", file) for name, file in expected.items()}
