"""How long commands take until they say something: their help, a mistake in a word, a mistake in a key, their work.

    python -m benchmarks.start

User seconds of CPU up to the first line, and seconds of a clock, for which the machine has to be idle. Linux only: the
time of a process that goes on is read from ``/proc``.

User seconds while all commands imported torch before they read their words, and now, both measured at one time on two
cores that were busy with other work, one thread each:

    command                     help          wrong word    wrong key     work
    prepare                     2.35   0.49   2.42   0.46                 2.21   0.53
    masks.create                6.23   0.23   5.92   0.25   7.11   0.23   5.65   6.35
    masks.report                5.08   0.19   4.96   0.19   5.19   0.22   4.93   2.90
    train.py                    4.12   0.21   4.40   0.18   3.72   0.19   3.69   4.60
    test.py                     3.54   0.18   3.44   0.19   3.38   0.20   3.34   5.82
    predict.py                  3.16   0.18   3.06   0.18                 3.10   0.16
    engine.report               1.45   0.19   1.34   0.19                 1.42   0.17
    engine.compare              1.42   0.19   1.55   0.20                 1.55   0.22
    masks.pretrain              4.28   0.07   4.31   0.04                 4.67   4.25
    model.import_published      3.32   0.03   3.32   0.04

The load of the machine changed meanwhile: in turns, test.py began its work after 4.9, 4.4, 4.5 and 4.8, 4.6, 4.7 s.
Expected were 0.2 to 0.3 before work, and no change of the work where a network is built: timm imports torchvision,
which imports torch._dynamo.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from util.files import PROJECT

_USER_TICKS = slice(11, 14, 2)  # of the numbers in /proc/PID/stat: its own, and those of its processes that ended
_SMALL = (
    "DATA.data_root={w}/shapes DATA.train_list={w}/lists/train.txt DATA.val_list={w}/lists/val.txt DATA.min_area=200 "
    "TRAIN.train_h=65 TRAIN.train_w=65 TRAIN.val_size=65 TRAIN.batch_size=2 TRAIN.epoch_episodes=2 TRAIN.epochs=1 "
    "TRAIN.episodes=2 TRAIN.workers=0 TRAIN.save_path={w}/run"
)
_MASKS = "{w} shapes experiment=ssl_demo list={w}/lists/train.txt DATA.min_area=200"
_IMAGE = "{w}/shapes/JPEGImages/shapes_train_000000.jpg"
_MASK = "{w}/shapes/SegmentationClassAug/shapes_train_000000.png"


class Command(NamedTuple):
    """Words of a command: of its work, in a folder ``{w}`` in which the commands above it have worked; wrong ones."""

    name: str
    work: str | None
    wrong_word: str
    wrong_key: str | None = None  # where it reads a configuration


COMMANDS = [
    Command("-m prepare", "shapes --root {w}/shapes --lists {w}/lists --train 60 --val 60 --size 80", "nothing"),
    Command("-m masks.create", _MASKS, "{w} moon", "{w} shapes Cluster.recype=global"),
    Command("-m masks.report", _MASKS, "{w} moon", "{w} shapes Cluster.recype=global"),
    Command("train.py", f"shapes ssl_demo {_SMALL}", "moon ssl_demo", "shapes ssl_demo TRAIN.epoch=1"),
    Command("test.py", f"shapes ssl_demo {_SMALL}", "moon ssl_demo", "shapes ssl_demo TRAIN.epoch=1"),
    Command(
        "predict.py",
        f"--checkpoint {{w}}/run/latest.pth --support {_IMAGE} {_MASK} --query {_IMAGE} --output {{w}}/predictions",
        "--class x",
    ),
    Command("-m engine.report", "{w}/run", ""),
    Command("-m engine.compare", "{w}/run --against {w}/run --draws 100", ""),
    Command(
        "-m masks.pretrain",
        "{w}/shapes/JPEGImages {w}/b.safetensors --size 32 --epochs 1 --batch 8 --queue 8",
        "--size x",
    ),
    Command("-m model.import_published", None, ""),
]


def main() -> None:
    """Start every command in four ways and print a table: user seconds, in brackets those of the clock."""
    sys.stdout.write(_row("command", ["help", "wrong word", "wrong key", "work"]))
    with tempfile.TemporaryDirectory() as folder:
        for command in COMMANDS:
            starts = [("--help", 0), (command.wrong_word, 2), (command.wrong_key, 2), (command.work, 0)]
            cells = [measure(command.name, words, folder, code) for words, code in starts]
            sys.stdout.write(_row(command.name, cells))


def measure(command: str, words: str | None, folder: str, code: int) -> str:
    """Run a command to its end, which must have the exit ``code``; returns the seconds that it took to its first line.

    Without ``words`` it is not run, and the result is empty.
    """
    if words is None:
        return ""
    line = [sys.executable, *command.split(), *words.format(w=folder).split()]
    begin = time.monotonic()
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=PROJECT) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)
        seconds = f"{_user_seconds(process.pid):.2f} ({time.monotonic() - begin:.2f})"
        output = first + process.stdout.read()
    if process.returncode != code:
        raise RuntimeError(f"{' '.join(line)}: exit code {process.returncode}\n{output.decode()}")
    return seconds


def _user_seconds(process: int) -> float:
    """What a process and its own that ended have computed."""
    numbers = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return sum(map(int, numbers[_USER_TICKS])) / os.sysconf("SC_CLK_TCK")


def _row(name: str, cells: list[str]) -> str:
    return f"{name:<26}" + "".join(f"{cell:>14}" for cell in cells) + "\n"


if __name__ == "__main__":
    main()
