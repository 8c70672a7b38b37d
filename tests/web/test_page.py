"""The page in a real browser, before the real command: painting, segmenting, correcting, downloading, two users."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from segmenter import Segmenter
from tests.web.served import BACKBONE, METHOD, masks_in, png, scene, square
from util.files import PROJECT
from web.examples import example_scenes

if TYPE_CHECKING:
    from playwright import sync_api as playwright
else:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run"),
]
# Larger than the picture that is painted on, so that the mask has more pixels than the canvas.
LARGE = (1000, 2000)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no browser, {CHROMIUM}"),
]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where ``web.sh`` answers."""
    command = ["sh", str(PROJECT / "web.sh"), "--port", "0", "--method", METHOD, "--backbone", *BACKBONE]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # the same bits as in the process of the test
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if found := re.search(r"http://localhost:\d+", line):
                yield found[0]
                process.terminate()
                break
        else:
            pytest.fail(said)


@pytest.fixture(scope="module")
def chromium() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class User:
    """Someone with a browser of their own, who opens the page; it must ask no other host and report no error."""

    def __init__(self, browser: playwright.Browser, address: str) -> None:
        self.page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        self.address, self.asked, self.errors = address, set[str](), list[str]()
        self.page.on("request", lambda request: self.asked.add(urlsplit(request.url).netloc))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: dialog.accept())
        self.page.goto(address)
        self.page.locator("#examples button").first.wait_for()

    def upload(self, images: dict[str, np.ndarray]) -> None:
        self.page.set_input_files("#files", [_file(name, png(image)) for name, image in images.items()])
        for name in images:
            self.card(name).wait_for()

    def card(self, name: str) -> playwright.Locator:
        return self.page.locator(".card", has_text=name)

    def open(self, name: str) -> None:
        self.card(name).click()
        self.page.locator("#editor-name", has_text=name).wait_for()

    def paint(self, *places: tuple[int, int], brush: int) -> list[tuple[float, float]]:
        """A stroke through places in pixels of the canvas on the screen; returns them in shares of its sides."""
        self.page.locator("#brush").evaluate("(slider, size) => (slider.value = size)", str(brush))
        left, top, width, height = self.page.locator("#canvas").evaluate(
            "canvas => (({left, top, width, height}) => [left, top, width, height])(canvas.getBoundingClientRect())"
        )
        start, *others = [(round(left) + x, round(top) + y) for x, y in places]
        with self.page.expect_response(lambda response: response.request.method == "PUT"):
            self.page.mouse.move(*start)
            self.page.mouse.down()
            for place in others:
                self.page.mouse.move(*place, steps=5)
            self.page.mouse.up()
        return [((x - left) / width, (y - top) / height) for x, y in (start, *others)]

    def segment(self) -> None:
        self.page.click("#segment")
        self.page.locator("#said", has_text="segmented").wait_for()

    def masks(self) -> dict[str, np.ndarray]:
        with self.page.expect_download() as download:
            self.page.click("#download-zip")
        return masks_in(Path(download.value.path()).read_bytes())

    def leave(self) -> None:
        assert self.asked == {urlsplit(self.address).netloc}
        assert self.errors == []
        self.page.context.close()


@pytest.fixture
def user(chromium: playwright.Browser, address: str) -> Iterator[User]:
    user = User(chromium, address)
    yield user
    user.leave()


def _file(name: str, content: bytes) -> playwright.FilePayload:
    return {"name": name, "mimeType": "image/png", "buffer": content}


def stroked(mask: np.ndarray, places: list[tuple[float, float]], brush: int, value: int) -> np.ndarray:
    """The mask after a stroke through places in shares of its sides, drawn pixel by pixel."""
    height, width = mask.shape
    rows, columns = np.mgrid[:height, :width] + 0.5
    painted = mask.copy()
    points = [(x * width, y * height) for x, y in places]
    for (x0, y0), (x1, y1) in pairwise(points):
        dx, dy = x1 - x0, y1 - y0
        along = np.clip(((columns - x0) * dx + (rows - y0) * dy) / (dx * dx + dy * dy), 0, 1)
        painted[np.hypot(columns - x0 - along * dx, rows - y0 - along * dy) <= brush / 2] = value
    return painted


def fitted(**supports: tuple[np.ndarray, np.ndarray]) -> Segmenter:
    segmenter = Segmenter.load(method=METHOD, backbone=BACKBONE)
    segmenter.fit([image for image, _ in supports.values()], [mask for _, mask in supports.values()])
    return segmenter


def test_paint_segment_correct_download(user: User) -> None:
    large = np.kron(scene(60), np.ones((12, 13, 1), dtype=np.uint8))[: LARGE[0], : LARGE[1]]
    user.upload({"support.png": large, "new.png": scene(20), "other.png": scene(100)})
    user.open("support.png")
    places = user.paint((330, 130), (520, 150), (400, 300), brush=90)
    user.page.click("#close")
    painted = stroked(np.zeros(LARGE, dtype=np.uint8), places, 90, 1)
    assert 50_000 < painted.sum() < 200_000
    assert np.array_equal(user.masks()["support_mask.png"], painted)

    user.segment()
    segmenter = fitted(support=(large, painted))
    masks = user.masks()
    assert np.array_equal(masks["new_mask.png"], segmenter.predict(scene(20)).mask)
    assert np.array_equal(masks["other_mask.png"], segmenter.predict(scene(100)).mask)

    user.open("new.png")
    user.page.click("#erase")
    erased = user.paint((40, 200), (600, 220), brush=12)
    user.page.click("#erase")
    added = user.paint((150, 300), (200, 300), brush=7)
    corrected = stroked(stroked(masks["new_mask.png"], erased, 12, 0), added, 7, 1)
    assert np.array_equal(user.masks()["new_mask.png"], corrected)
    user.page.keyboard.press("Escape")
    user.page.locator(".count", has_text="2 examples").wait_for()
    user.segment()
    again = fitted(support=(large, painted), new=(scene(20), corrected)).predict(scene(100)).mask
    assert np.array_equal(user.masks()["other_mask.png"], again)

    user.page.reload()
    user.card("support.png").wait_for()
    after = user.masks()
    assert np.array_equal(after["support_mask.png"], painted)
    assert np.array_equal(after["new_mask.png"], corrected)
    assert np.array_equal(after["other_mask.png"], again)


def test_undo_leads_back_to_what_is_predicted(user: User) -> None:
    user.page.click("#examples button:has-text('fish')")
    user.card("fish 2.png").wait_for()
    user.segment()
    predicted = user.masks()["fish 2_mask.png"]
    user.open("fish 2.png")
    first = user.paint((100, 100), (200, 100), brush=20)
    user.paint((100, 200), (200, 300), brush=40)
    user.page.keyboard.press("Control+z")
    user.page.locator("#editor-kind", has_text="your mask").wait_for()
    assert np.array_equal(user.masks()["fish 2_mask.png"], stroked(predicted, first, 20, 1))
    user.page.click("#undo")
    user.page.locator("#editor-kind", has_text="predicted").wait_for()
    assert np.array_equal(user.masks()["fish 2_mask.png"], predicted)


def test_an_example_has_the_iou_of_the_segmenter(user: User) -> None:
    user.page.click("#examples button:has-text('star')")
    user.card("star 6.png").wait_for()
    user.segment()
    masks = user.masks()
    (support, objects), *others = example_scenes("star")
    segmenter = fitted(support=(support, objects))
    overlaps = []
    for number, (image, truth) in enumerate(others, start=2):
        found, expected = masks[f"star {number}_mask.png"] > 0, segmenter.predict(image).mask > 0
        overlaps.append((found & truth).sum() / (found | truth).sum())
        assert overlaps[-1] == (expected & truth).sum() / (expected | truth).sum()
    assert np.mean(overlaps) > 0.3
    user.page.fill("#threshold", "0.6")
    user.page.locator("#threshold-value", has_text="60 %").wait_for()
    stricter = user.masks()["star 2_mask.png"]
    assert np.array_equal(stricter, segmenter.predict(others[0][0], threshold=0.6).mask)


def test_two_users_see_their_own(chromium: playwright.Browser, address: str) -> None:
    users = [User(chromium, address) for _ in range(2)]
    for user, name in zip(users, ("one", "two"), strict=True):
        user.upload({f"{name} support.png": scene(60), f"{name} new.png": scene(20)})
        user.open(f"{name} support.png")
        user.page.set_input_files("#mask-file", _file("m.png", png(255 * square(60).astype(np.uint8))))
        user.page.locator("#note", has_text="m.png: 1,600 pixels are marked").wait_for()
        user.page.click("#close")
    for user in users:
        user.page.click("#segment")
    expected = fitted(support=(scene(60), square(60))).predict(scene(20)).mask
    for user, name in zip(users, ("one", "two"), strict=True):
        user.page.locator("#said", has_text="1 photograph segmented").wait_for()
        masks = user.masks()
        assert set(masks) == {f"{name} support_mask.png", f"{name} new_mask.png"}
        assert np.array_equal(masks[f"{name} new_mask.png"], expected)
        user.leave()


def test_a_mistake_is_a_line_and_a_narrow_window_has_all(user: User) -> None:
    user.page.set_input_files("#files", [_file("<b>a.jpg", b"text"), _file("b.jpg", b"text")])
    user.page.locator("#error", has_text="<b>a.jpg: not a readable image").wait_for()
    assert "(and 1 more files)" in user.page.locator("#error").inner_text()
    user.upload({"a name without a blank in it".replace(" ", "_") * 4 + ".png": scene(0)})
    assert user.page.locator("#error").is_hidden()
    user.page.click("#segment")
    user.page.locator("#error", has_text="object: marked in no photograph yet").wait_for()
    user.page.set_viewport_size({"width": 400, "height": 700})
    for click in ("#error", ".card"):
        user.page.locator(click).click()
        width = user.page.locator("html").evaluate("html => html.scrollWidth")
        assert width <= 400
    user.page.locator("#editor").wait_for()


def test_what_is_shown_is_what_is_painted(user: User, tmp_path: Path) -> None:
    """The canvas has the class's colour where the mask is, seen in a picture of the screen."""
    user.upload({"grey.png": np.full((200, 300, 3), 128, dtype=np.uint8)})
    user.open("grey.png")
    places = user.paint((100, 100), (300, 200), brush=60)
    user.page.mouse.move(5, 5)
    user.page.locator("#canvas").screenshot(path=tmp_path / "screen.png")
    screen = np.array(Image.open(tmp_path / "screen.png").convert("RGB")).astype(int)
    seen = np.abs(screen - 128).sum(axis=2) > 40
    mask = stroked(np.zeros((200, 300), dtype=np.uint8), places, 60, 1)
    size = Image.fromarray(mask).resize(seen.shape[::-1], Image.Resampling.NEAREST)
    assert (seen == np.array(size).astype(bool)).mean() > 0.98
