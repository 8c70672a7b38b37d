"""Which episodes are shown as typical and as worst, and the command that draws them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.prediction_pictures import choose, main
from engine.metrics import Areas, EpisodeScore
from episodes.episode import Example
from tests.workspace import Workspace
from util.images import write_label

pytest_plugins = ["tests.workspace"]


def test_typical_and_worst_of_other_classes_and_images_without_people(tmp_path: Path) -> None:
    label = np.zeros((4, 4), dtype=np.uint8)
    write_label(tmp_path / "empty.png", label)
    label[0, 0] = 15
    write_label(tmp_path / "person.png", label)
    # Class, IoU in percent, query, support; the median is 40.
    episodes = [
        (1, 40, "a", "b"),  # typical
        (1, 41, "c", "d"),  # the class is there
        (2, 42, "b", "e"),  # its query is there
        (2, 43, "person", "f"),
        (3, 50, "g", "h"),  # typical
        (2, 0, "i", "a"),  # its support is there
        (2, 5, "j", "k"),  # worst
        (2, 6, "l", "m"),  # the class is there
        (1, 80, "n", "o"),
        (1, 20, "p", "person"),
        (1, 25, "q", "r"),  # worst: on this side the class is new
    ]
    scores = [EpisodeScore(slot, query, Areas(iou, iou, 100, 1000)) for slot, iou, query, _ in episodes]

    def examples(number: int) -> list[Example]:
        return [
            Example(tmp_path / name, tmp_path / ("person.png" if name == "person" else "empty.png"), 1)
            for name in episodes[number][2:]
        ]

    shown = {tmp_path / "z"}
    assert choose(scores, examples, shown) == [[0, 4], [6, 10]]
    assert {path.name for path in shown} == {*"abghjkqrz"}


def test_the_sheet_of_two_tests(workspace: Workspace, fails: Callable[..., str]) -> None:
    workspace.train("pictured", "TRAIN.epochs=1")
    weight = f"TRAIN.weight={workspace.root}/pictured/latest.pth"
    words = [*workspace.overrides("pictures", "TRAIN.episodes=20"), weight]
    folders = [f"{workspace.root}/pictured_{fold}" for fold in (0, 1)]
    for fold in (0, 1):
        workspace.test(f"pictured_{fold}", *words[-2:], experiment=f"split{fold}_demo")
    sheet = workspace.root / "sheet.jpg"
    main([str(sheet), *folders, *words, "--family", "demo"])
    with Image.open(sheet) as picture:
        assert picture.width == 1624 and picture.height > 4 * 200
    other = [word.replace("min_area=200", "min_area=400") for word in words]
    message = fails(main, [str(sheet), *folders, *other, "--family", "demo"])
    assert "/episodes.csv, episode " in message and "give the words of the test" in message
