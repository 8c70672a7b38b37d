"""The server: what it answers is what ``Segmenter`` gives, mistakes are a line, strangers are refused."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

import web.photographs
import web.sessions
from engine.predictions import Prediction
from segmenter import Segmenter
from tests.masks.small_images import write_extractor
from tests.web.served import ADDRESS, COOKIE, Served, masks_in, png, scene, serving, square
from web.examples import example_scenes


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("web")) as server:
        yield server


@pytest.fixture
def served(server: Served) -> Served:
    """The server without sessions of other tests."""
    server.sessions.forget_idle(0)
    return server


def test_an_example_is_segmented_as_the_segmenter_does(served: Served) -> None:
    """The same pixels at every threshold, so the same IoU with the truth."""
    browser = served.browser()
    browser.ask("POST", "/examples/fish")
    photographs = browser.segment()["photographs"]
    (first, first_truth), *others = example_scenes("fish")
    expected = served.segmenter()
    expected.fit(first, first_truth, name="fish")
    assert np.array_equal(browser.mask(photographs[0]["number"]), first_truth)
    for photograph, (image, truth) in zip(photographs[1:], others, strict=True):
        for threshold, min_area in ((0.5, 0), (0.45, 300)):
            prediction = expected.predict(image, threshold=threshold, min_area=min_area)
            query = f"?threshold={threshold}&min_area={min_area}"
            mask = browser.mask(photograph["number"], query)
            assert np.array_equal(mask, prediction.mask)
            assert (mask & truth).sum() / (mask | truth).sum() == overlap(prediction.mask > 0, truth)
            (shown,) = (each for each in browser.state(query)["photographs"] if each["name"] == photograph["name"])
            area = prediction.areas()["fish"]
            assert shown["shares"] == [area.share] and shown["confidence"] == (area.probability or 0)


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_many_photographs_are_judged_together(tmp_path: Path) -> None:
    """Where the backbone has a classifier, as one of random weights."""
    weights = write_extractor(tmp_path / "backbone.pth", "mobilenetv2_035")
    backbone = ["TRAIN.backbone=mobilenetv2_035", f"TRAIN.backbone_weights={weights}", "TRAIN.val_size=129"]
    with serving(tmp_path, backbone) as served:
        check_many_photographs(served)


def check_many_photographs(served: Served) -> None:
    browser = served.browser()
    support = browser.add(scene(60))
    browser.paint(support, square(60))
    queries = [scene(left) for left in range(5, 115, 10)]
    numbers = [browser.add(image) for image in queries]
    state = browser.segment()
    assert state["run"]["total"] == 2 * len(queries)
    expected = served.segmenter()
    expected.fit(scene(60), square(60))
    found = judged(expected, queries)
    for number, image, presence in zip(numbers, queries, found, strict=True):
        (shown,) = (each for each in state["photographs"] if each["number"] == number)
        assert shown["presence"] == pytest.approx([presence["object"]])
        for least in (0.0, 0.5):
            mask = expected.predict(image, threshold=0.3, presence=least, found=presence).mask
            assert np.array_equal(browser.mask(number, f"?threshold=0.3&presence={least}"), mask)
    browser.add(scene(3))
    state = browser.segment()
    assert state["run"]["total"] == len(queries) + 2  # all are looked at again, one is predicted
    judged_anew = judged(expected, [*queries, scene(3)])[0]
    (shown,) = (each for each in state["photographs"] if each["number"] == numbers[0])
    assert shown["presence"] == pytest.approx([judged_anew["object"]])


def test_other_further_supports_segment_all_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Further supports by their place among what is looked at."""
    weights = write_extractor(tmp_path / "backbone.pth", "mobilenetv2_035")
    backbone = ["TRAIN.backbone=mobilenetv2_035", f"TRAIN.backbone_weights={weights}", "TRAIN.val_size=129"]
    taken = [[1], [1], [2]]
    monkeypatch.setattr(Segmenter, "extend", lambda *_: {"object": taken.pop(0)})
    with serving(tmp_path, backbone) as served:
        browser = served.browser()
        browser.paint(browser.add(scene(60)), square(60))
        for left in range(5, 105, 10):
            browser.add(scene(left))
        totals = [browser.segment()["run"]["total"] for _ in range(3)]
    assert totals == [20, 10, 20] and not taken


def judged(segmenter: Segmenter, images: list[np.ndarray]) -> list[dict[str, float | None]]:
    """What is there in each."""
    return segmenter.presence_in([segmenter.look(image) for image in images])


def test_a_further_photograph_is_the_only_one_that_is_computed(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = served.browser()
    support = browser.add(scene(60))
    browser.paint(support, square(60))
    first = browser.add(scene(20))
    browser.segment()
    before = browser.mask(first, "?threshold=0.4")
    seen: list[np.ndarray] = []
    predict = Segmenter.predict

    def noting(segmenter: Segmenter, image: np.ndarray, **words: Any) -> Prediction:
        seen.append(image)
        return predict(segmenter, image, **words)

    monkeypatch.setattr(Segmenter, "predict", noting)
    browser.add(scene(100))
    browser.segment()
    assert [np.array_equal(image, scene(100)) for image in seen] == [True]
    assert np.array_equal(browser.mask(first, "?threshold=0.4"), before)
    browser.paint(support, square(61))
    browser.segment()
    assert len(seen) == 3


def test_sliders_compute_nothing_anew(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = served.browser()
    browser.paint(browser.add(scene(60)), square(60))
    number = browser.add(scene(20))
    browser.segment()
    monkeypatch.setattr(Segmenter, "predict", None)
    monkeypatch.setattr(Segmenter, "describe", None)
    areas = [int(browser.mask(number, f"?threshold={threshold}").sum()) for threshold in (0.01, 0.5, 0.99)]
    assert areas[0] > areas[1] > areas[2] == 0


def test_a_painted_mask_comes_back_pixel_for_pixel(served: Served) -> None:
    """Of several classes, at an odd size, in each form of download."""
    browser = served.browser()
    for name in ("cat", "dog"):
        browser.ask("POST", "/classes", name=name)
    mask = np.random.default_rng(0).integers(0, 4, (37, 53)).astype(np.uint8)
    number = browser.add(scene(0, (37, 53)), "a b.png")
    browser.paint(number, mask)
    assert np.array_equal(browser.mask(number), mask)
    archive = browser.ask("GET", "/masks.zip")
    assert np.array_equal(masks_in(archive)["a b_mask.png"], mask)
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        assert file.read("classes.txt").decode().split() == ["object", "cat", "dog"]
    content = browser.ask("GET", "/masks.coco.json")
    assert [image["file_name"] for image in content["images"]] == ["a b.png"]
    browser.paint(browser.add(scene(0, (37, 53)), "a b.jpg"), 0 * mask)
    assert set(masks_in(browser.ask("GET", "/masks.zip"))) == {"a b.png_mask.png", "a b.jpg_mask.png"}
    again = np.zeros_like(mask)
    for annotation in content["annotations"]:
        again[coco_mask.decode(annotation["segmentation"]) > 0] = annotation["category_id"]
    assert np.array_equal(again, mask)
    with zipfile.ZipFile(io.BytesIO(browser.ask("GET", "/masks.labelme.zip"))) as file:
        polygons = json.loads(file.read("a b.png.json"))
    assert polygons["imagePath"] == "a b.png"
    assert {shape["label"] for shape in polygons["shapes"]} == {"object", "cat", "dog"}


def test_a_correction_is_a_further_support(served: Served) -> None:
    browser = served.browser()
    browser.paint(browser.add(scene(60)), square(60))
    second, third = browser.add(scene(10)), browser.add(scene(100))
    browser.segment()
    corrected = browser.mask(second)
    corrected[25:65, 10:50] = 1
    browser.paint(second, corrected)
    browser.segment()
    expected = served.segmenter()
    expected.fit([scene(60), scene(10)], [square(60), corrected])
    assert np.array_equal(browser.mask(third), expected.predict(scene(100)).mask)
    browser.ask("DELETE", f"/photographs/{second}/mask")
    alone = served.segmenter()
    alone.fit(scene(60), square(60))
    assert np.array_equal(browser.mask(second), alone.predict(scene(10)).mask)


def test_masks_from_files(served: Served) -> None:
    browser = served.browser()
    browser.ask("POST", "/classes", name="second")
    number = browser.add(scene(60))
    path = f"/photographs/{number}/mask-file?class=2"
    said = browser.ask("POST", path, png(square(60) * np.uint8(255)), "white.png")["said"]
    assert said == "white.png: 1,600 pixels are marked"
    assert np.array_equal(browser.mask(number), 2 * square(60))
    several = np.where(square(60), 2, square(0)).astype(np.uint8)
    browser.ask("POST", path, png(several), "several.png")
    assert np.array_equal(browser.mask(number), several)
    browser.ask("DELETE", "/classes/1")
    assert np.array_equal(browser.mask(number), several == 2)


def test_two_browsers_do_not_mix(served: Served) -> None:
    """They segment at the same time, by other examples of other classes."""
    first, second = served.browser(), served.browser()
    first.ask("POST", "/examples/star")
    second.ask("POST", "/examples/butterfly")
    for browser in (first, second):
        browser.ask("POST", "/run")
    for browser, name in ((first, "star"), (second, "butterfly")):
        state = browser.wait()
        (support, support_truth), *others = example_scenes(name)
        expected = served.segmenter()
        expected.fit(support, support_truth)
        assert [each["name"] for each in state["classes"]] == [name]
        for photograph, (image, _) in zip(state["photographs"][1:], others, strict=True):
            assert photograph["name"].startswith(name)
            assert np.array_equal(browser.mask(photograph["number"]), expected.predict(image).mask)
    number = second.add(scene(60))
    assert "is not here any more" in first.refused("GET", f"/photographs/{number}/picture")


BOX = square(0).astype(np.uint8)


def bomb() -> bytes:
    """A small PNG that claims to have 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("method", "path", "content", "name", "expected"),
    [
        ("POST", "/photographs", b"no picture", "notes.jpg", "notes.jpg: not a readable image"),
        ("POST", "/photographs", b"", "empty.jpg", "empty.jpg: not a readable image"),
        ("POST", "/photographs", bomb(), "bomb.png", "bomb.png: 60000 x 60000 pixels, at most"),
        ("POST", "/photographs", bytes((50 << 20) + 1), "l%C3%A4nge.jpg", "länge.jpg: at most 50 MB"),
        ("POST", "/photographs/{n}/mask-file", png(BOX[:80]), "m.png", "m.png: the label is 160x80"),
        ("POST", "/photographs/{n}/mask-file", b"no mask", "m.png", "m.png: not a readable mask"),
        ("POST", "/photographs/{n}/mask-file", bomb(), "m.png", "m.png: 60000 x 60000 pixels, at most"),
        ("POST", "/photographs/{n}/mask-file", png(0 * BOX), "m.png", "m.png: marks no object"),
        ("POST", "/photographs/{n}/mask-file", png(2 + 5 * BOX), "m.png", "has the values 2, 7; add"),
        ("POST", "/photographs/{n}/mask-file?class=2", png(BOX), "m.png", "class is not here"),
        ("PUT", "/photographs/{n}/mask", bytes(14_399), None, "a mask of 14,399 pixels"),
        ("PUT", "/photographs/{n}/mask", bytes([2]) * 14_400, None, "a class in its mask is not here"),
        ("PUT", "/photographs/999/mask", bytes(14_400), None, "not here any more"),
        ("DELETE", "/photographs/999", b"", None, "not here any more"),
        ("POST", "/classes", b"", "%20", "a class needs a name of 1 to 60 letters"),
        ("POST", "/classes", b"", 61 * "x", "a class needs a name of 1 to 60 letters"),
        ("POST", "/classes", b"", "a%00b", "a class needs a name"),
        ("POST", "/classes", b"", "object", "object: there is a class of this name already"),
        ("PUT", "/classes/2", b"", "x", "this class is not here"),
        ("DELETE", "/classes/1", b"", None, "the only class cannot be removed"),
        ("POST", "/examples/moon", b"", None, "moon: no example; choose one of star, fish, butterfly"),
        ("POST", "/run", b"", None, "object: marked in no photograph yet"),
        ("POST", "/run", bytes(10_001), None, "what was sent: at most"),
        ("GET", "/masks.zip", b"", None, "no photograph has a mask yet"),
        ("GET", "/state?threshold=nan", b"", None, "threshold: expected a number from 0 to 1"),
        ("GET", "/state?presence=2", b"", None, "presence: expected a number from 0 to 1"),
        ("GET", "/state?min_area=-1", b"", None, "min_area: expected a whole number"),
    ],
)
def test_mistakes_are_a_line(
    served: Served, method: str, path: str, content: bytes, name: str | None, expected: str
) -> None:
    browser = served.browser()
    number = browser.add(scene(60))
    before = browser.state()
    assert expected in browser.refused(method, path.format(n=number), content, name)
    assert browser.state() == before


def test_a_network_that_is_not_among_the_choices(served: Served) -> None:
    browser = served.browser()
    browser.paint(browser.add(scene(60)), square(60))
    assert "this network is not here" in browser.refused("POST", "/run?network=../../etc/passwd")


def test_limits(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = served.browser()
    browser.add(scene(60))
    monkeypatch.setattr(web.photographs, "MOST_PIXELS", 14_399)
    assert "large.png: 160 x 90 pixels, at most 14,399" in browser.refused(
        "POST", "/photographs", png(scene(0)), "large.png"
    )
    monkeypatch.setattr(web.photographs, "MOST_PIXELS", 14_400)
    monkeypatch.setattr(web.sessions, "MOST_PIXELS_TOGETHER", 28_799)
    assert "more than 28,799 pixels together" in browser.refused("POST", "/photographs", png(scene(0)), "b.png")
    monkeypatch.setattr(web.sessions, "MOST_PHOTOGRAPHS", 1)
    assert "1 photographs are here already" in browser.refused("POST", "/photographs", png(scene(0)), "c.png")
    assert [each["name"] for each in browser.state()["photographs"]] == ["photograph.png"]
    monkeypatch.setattr(web.sessions, "MOST_SESSIONS", 2)
    for _ in range(3):  # those that have given nothing make room
        served.browser().state()
    monkeypatch.setattr(web.sessions, "MOST_SESSIONS", 1)
    assert "1 browsers use this page" in served.browser().refused("GET", "/state")
    assert len(browser.state()["photographs"]) == 1


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Host": "example.com"}, 403),
        ({"Host": "localhost.example.com"}, 403),
        ({"Host": "127.0.0.1.example.com:8000"}, 403),
        ({"Host": "10.0.0.1:8000"}, 403),
        ({"Host": "localhost:8000", "Origin": "http://example.com"}, 403),
        ({"Host": "localhost:8000", "Origin": "http://localhost:3000"}, 403),
        ({"Host": "localhost:8000", "Origin": "null"}, 403),
        ({"Host": "localhost:8000", "Origin": ""}, 403),
        ({"Host": "localhost:8000", "Origin": ADDRESS, "Sec-Fetch-Site": "same-site"}, 403),
        ({"Host": "localhost:8000", "Origin": ADDRESS, "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Host": "127.0.0.1:9", "Origin": "http://127.0.0.1:9"}, 200),
        ({"Host": "[::1]:8000", "Origin": "http://[::1]:8000"}, 200),
    ],
)
def test_only_the_page_itself_is_answered(served: Served, headers: dict[str, str], expected: int) -> None:
    browser = served.browser()
    response = browser.client.post("/photographs", content=png(scene(0)), headers=headers)
    assert response.status_code == expected
    assert len(browser.state()["photographs"]) == (expected == 200)


def test_other_sites_may_link_to_the_page_but_ask_nothing(served: Served) -> None:
    client = served.browser().client
    for path, expected in (("/", 200), ("/state", 403), ("/masks.zip", 403), ("/page/main.js", 403)):
        assert client.get(path, headers={"Sec-Fetch-Site": "cross-site"}).status_code == expected


@pytest.mark.parametrize("path", ["/", "/page/main.js", "/page/page.css", "/state", "/nothing", "/page/../server.py"])
def test_every_answer_forbids_other_hosts(served: Served, path: str) -> None:
    response = served.browser().client.get(path)
    assert response.status_code == (404 if "nothing" in path or ".." in path else 200)
    assert response.headers["content-security-policy"].startswith("default-src 'self';")
    assert response.headers["cache-control"] == "no-store"


def test_the_cookie_is_for_this_page_alone(served: Served) -> None:
    response = served.browser().client.get("/state")
    name, _, rest = response.headers["set-cookie"].partition("=")
    secret, *attributes = rest.lower().split("; ")
    assert name == COOKIE and len(secret) >= 40
    assert {"httponly", "samesite=strict", "path=/"} <= set(attributes)


def test_names_are_never_paths(served: Served) -> None:
    browser = served.browser()
    names = ["../../evil.png", "/etc/passwd", "a\\b.png", "a/b.png", "..", "<script>.png"]
    for name in names:
        browser.paint(browser.add(scene(0), name.replace("<", "%3C")), square(0))
    assert [each["name"] for each in browser.state()["photographs"]] == names
    written = [path for path in served.folder.parent.rglob("*") if path.is_file()]
    inside = [path for path in written if path.is_relative_to(served.folder)]
    assert written == inside
    assert all(path.name.partition(".")[0].partition("_")[0].isdigit() for path in inside)
    inside_zip = masks_in(browser.ask("GET", "/masks.zip"))
    assert len(inside_zip) == len(names)
    assert not [name for name in inside_zip if set(name) & set("/\\<>:") or name.startswith(".")]


def test_sessions_that_are_left_alone_are_deleted(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        browser = served.browser()
        browser.add(scene(0))
        assert len(list(served.folder.iterdir())) == 1
        served.sessions.forget_idle(60)
        assert len(browser.state()["photographs"]) == 1
        served.sessions.forget_idle(0)
        assert list(served.folder.iterdir()) == []
        assert browser.state()["photographs"] == []


def test_what_is_removed_while_it_is_segmented(served: Served) -> None:
    browser = served.browser()
    browser.paint(browser.add(scene(60)), square(60))
    numbers = [browser.add(scene(left)) for left in (0, 10, 20)]
    browser.ask("POST", "/run")
    browser.ask("DELETE", f"/photographs/{numbers[1]}")
    state = browser.wait()
    assert [each["predicted"] for each in state["photographs"]] == [False, True, True]
    browser.ask("POST", "/run")
    assert browser.ask("DELETE", "/session")["photographs"] == []
    assert browser.state()["run"] is None


def test_a_defect_is_no_traceback_on_the_page(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = served.browser()
    browser.paint(browser.add(scene(60)), square(60))
    browser.add(scene(0))
    monkeypatch.setattr(Segmenter, "predict", lambda *_, **__: 1 // 0)
    browser.ask("POST", "/run")
    while (run := browser.state()["run"])["running"]:
        pass
    assert run["error"] == "a defect of the program; its terminal says more"


def test_coco_of_a_prediction_has_its_confidence(served: Served) -> None:
    browser = served.browser()
    browser.paint(browser.add(scene(60)), square(60))
    browser.add(scene(20), "new.png")
    (confidence,) = (each["confidence"] for each in browser.segment()["photographs"] if each["predicted"])
    content = json.loads(json.dumps(browser.ask("GET", "/masks.coco.json")))
    scores = [annotation.get("score") for annotation in content["annotations"]]
    assert scores == [1, pytest.approx(confidence, abs=1e-4)]
    assert content["categories"] == [{"id": 1, "name": "object"}]
