"""engine.prediction_pages: a page that is safe and complete whatever files and classes are called."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import numpy as np
import pytest

from engine.prediction_forms import path_of
from engine.prediction_pages import Shown, index_page, sheet_names, sorted_by_confidence, write_prediction_sheets
from engine.predictions import Area
from util.images import read_image, write_image

NAMES = ["plain", "a b/é 100%", "x#y?z", "<b>&\"'", "javascript:alert(1)", "a\\b"]
CLASSES = ["dog", "<script>alert(1)</script>"]


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]


def shown(name: str, *presences: float | None) -> Shown:
    areas = [Area(presence, 10, 0.1, 0.6) for presence in presences]
    return Shown(name, f"/q/{name}.jpg", dict(zip(CLASSES, areas, strict=True)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        for form in ("overlay", "sheet"):
            write_image(tmp_path / path_of(name, form), np.zeros((6, 8, 3), dtype=np.uint8))
    return tmp_path


def test_links_lead_to_the_files_whatever_their_names(folder: Path) -> None:
    page = Page(index_page(folder, [shown(name, 0.9, 0.2) for name in NAMES], CLASSES))
    base = (folder / "index.html").as_uri()
    targets = [urlsplit(urljoin(base, link)) for link in page.links]
    assert {target.scheme for target in targets} == {"file"} and not any(target.query for target in targets)
    found = {unquote(target.path) for target in targets}
    assert found == {str(folder / path_of(name, form)) for name in NAMES for form in ("overlay", "sheet")}
    assert page.tags.count("script") == 1 and "b" not in page.tags


def test_the_policy_allows_the_pages_own_script_and_style_alone(folder: Path) -> None:
    text = index_page(folder, [shown("plain", 0.9, 0.2)], CLASSES)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy and "default-src 'none'" in policy[1] and "unsafe" not in policy[1] and "://" not in text
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = b64encode(sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy[1]


def test_the_surest_come_first(folder: Path) -> None:
    """By presence; where it is unknown by the mean probability of all pixels that are marked."""
    rows = [shown("a", 0.5, 0.1), shown("b", 0.1, 0.9), shown("c", None, None), shown("d", 0.5, None)]
    assert [row.name for row in sorted_by_confidence(rows)] == ["b", "c", "a", "d"]
    confidences = re.findall(r'data-confidences="(.*?)"', index_page(folder, rows, CLASSES))
    assert confidences == ["[0.5, 0.5, 0.1]", "[0.9, 0.1, 0.9]", "[0.6, 0.6, 0.6]", "[0.5, 0.5, 0.6]"]


def test_sheets_have_a_hundred_pictures_each(tmp_path: Path) -> None:
    assert [len(sheet_names("sheet", count)) for count in (0, 1, 100, 101)] == [0, 1, 1, 2]
    for number in range(103):
        write_image(tmp_path / path_of(f"{number}", "sheet"), np.full((24, 24, 3), 250, dtype=np.uint8))
    (tmp_path / path_of("7", "sheet")).write_text("damaged")
    write_prediction_sheets(tmp_path, "sheet", [shown(f"{number}", 0.9, 0.2) for number in range(103)])
    assert {path.name for path in tmp_path.glob("*.jpg")} == {"sheet.jpg", "sheet_2.jpg"}
    heights = [read_image(tmp_path / name).shape[0] for name in ("sheet.jpg", "sheet_2.jpg")]
    assert heights[0] == 13 * heights[1]
