"""Every command with every argument replaced by nonsense, one at a time: it works, or one line says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mistakes.world import World, assert_one_line, run

pytestmark = pytest.mark.slow

NONSENSE = {
    "nothing": "",
    "a dash": "-",
    "two dashes": "--",
    "an option": "--nonsense",
    "a minus": "-1",
    "zero": "0",
    "not a number": "nan",
    "a large number": "1" + 30 * "0",
    "a long name": 5000 * "n",
    "brackets": 3000 * "[",
    "a tag": "!!int x",
    "a surrogate": "\udcff",
    "a line break": "a\nb",
    "a folder": ".",
    "a device": "/dev/null",
    "a system file": "/proc/self/nothing/file",
    "a way up": "../../..",
}
PROBES = [
    "train", "test", "predict", "export", "prepare shapes", "prepare coco", "prepare pascal", "prepare subset",
    "prepare check", "masks.create", "masks.report", "masks.pretrain", "engine.report", "engine.compare",
    "model.import_published",
]  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("nonsense"))


@pytest.mark.parametrize("name", PROBES)
def test_nonsense(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A third of the nonsense in each place, so that each kind comes to a third of the places."""
    (tmp_path / "a" / "b" / "c" / "d").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b" / "c" / "d")
    monkeypatch.setattr("util.config.schema.PROJECT", tmp_path)  # run folders that no word names
    sound = world.command_lines()[name]
    for place, word in enumerate(sound):
        key, equals, _ = word.partition("=")
        if name == f"prepare {word}":
            continue
        for text in list(NONSENSE.values())[place % 3 :: 3]:
            command_line = [*sound[:place], f"{key}={text}" if equals else text, *sound[place + 1 :]]
            code, errors = run(name, command_line)
            assert code in (0, 1, 2), errors
            if code == 2:
                assert_one_line(errors)
