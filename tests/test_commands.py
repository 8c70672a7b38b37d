"""Commands as the documentation has them, really run: in a copy of the project, on small drawn images."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file

from episodes.lists import write_list
from masks.pretrain.__main__ import main as pretrain
from model.import_published import main as import_published
from tests.markdown import Command, documented_commands
from tests.masks.small_images import draw_image, write_extractor, write_images
from tests.prepare.small_dataset import overrides, write_dataset
from tests.tracked_files import relative, tracked_files
from util.files import PROJECT, read_json
from util.images import read_label, write_image, write_label

NETWORK = "mobilenetv2_035"
# A small network on small images, for a few steps.
SMALL = (
    "DATA.min_area=200 Cluster.assign_size=64 TRAIN.hidden_dims=16 TRAIN.train_h=65 TRAIN.train_w=65 TRAIN.val_size=65 "
    "TRAIN.batch_size=2 TRAIN.epoch_episodes=4 TRAIN.epochs=1 TRAIN.workers=0 TRAIN.episodes=6 VIS.pictures=2 "
    f"TRAIN.backbone={NETWORK} Cluster.extractor=timm:{NETWORK}"
)


class Copy:
    """A copy of the project with what the user of the documentation has in the home folder."""

    def __init__(self, root: Path) -> None:
        self.project, self.home = root / "project", root / "home"
        self.home.mkdir()
        for path in tracked_files():
            target = self.project / relative(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        (self.project / ".venv").symlink_to(sys.prefix)
        weights = write_extractor(self.home / "backbone.pth", NETWORK)
        self.imagenet = f"{SMALL} Cluster.extractor_weights={weights} TRAIN.backbone_weights={weights}"
        for number in range(24):
            image, label = draw_labelled(number)
            write_image(self.home / "labelled" / f"{number:02d}.jpg", image)
            write_label(self.home / "masks" / f"{number:02d}.png", label)
            if number < 10:
                write_image(self.home / "images" / f"{number}.jpg", image)
        for stem in ("example", "second"):
            image, label = draw_labelled(0)
            write_image(self.home / f"{stem}.jpg", image)
            write_label(self.home / f"{stem}_mask.png", label)
        write_image(self.home / "new.jpg", image)

    def run(self, command: Command, *more: str) -> str:
        """Run it in the shell as written, but for ``IMAGENET`` and ``more`` at its end; returns what it printed."""
        environment = {**os.environ, "HOME": str(self.home), "OMP_NUM_THREADS": "1", "IMAGENET": self.imagenet}
        text = " ".join([command.text, *more])
        done = subprocess.run(
            ["bash", "-c", text], cwd=self.project, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{text}\n{done.stderr}"
        return done.stdout


def documented(page: str, pattern: str) -> list[Command]:
    """The commands of a page in which the regular expression matches."""
    return [
        command for command in documented_commands((PROJECT / page).read_text()) if re.search(pattern, command.text)
    ]


def draw_labelled(number: int) -> tuple[np.ndarray, np.ndarray]:
    """An image (120, 160, 3) and its label: a textured disc of class 1 to 4 near the middle."""
    image, label = draw_image(number), np.zeros((120, 160), dtype=np.uint8)
    label[30:90, 50:110] = 1 + number % 4
    return image, label


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    return Copy(tmp_path_factory.mktemp("copy"))


@pytest.mark.slow
def test_own_images_as_the_readme_has_them(copy: Copy) -> None:
    """The block "Your own images" of README.md; then a prediction and a test with several shots, and a report."""
    start, end = "bash install.sh", "TRAIN.weight=exp/mine/ssl_mobilenetv2/latest.pth"
    commands = documented("README.md", "")
    texts = [command.text for command in commands]
    block = commands[texts.index(start) + 1 : next(i for i, text in enumerate(texts) if text.endswith(end)) + 1]
    assert len(block) == 6
    for command in block:
        copy.run(command, *([SMALL] if command.text.startswith("bash test.sh") else []))
    exp = copy.project / "exp"
    assert (exp / "mine/ssl_mobilenetv2/latest.pth").is_file()
    masks = sorted(path.name for path in (copy.project / "predictions").glob("*_mask.png"))
    assert masks == [f"{number}_mask.png" for number in range(10)]
    results = read_json(exp / "labelled/split0_mobilenetv2/results.json")
    assert results["protocol"]["episodes"] == 6 and results["protocol"]["label_use"] == "none"
    with (exp / "labelled/split0_mobilenetv2/episodes.csv").open() as stream:
        assert len(list(csv.reader(stream))) == 1 + 6

    (two_supports,) = documented("docs/own_images.md", "--support .* --support")
    copy.run(two_supports)
    assert read_label(copy.project / "results/new_mask.png").shape == (120, 160)

    # A test with five shots needs six images of each class.
    write_dataset(copy.home / "data")
    (five_shots,) = documented("docs/training.md", r"test\.sh .* TRAIN\.shot=5")
    weight = "TRAIN.weight=exp/mine/ssl_mobilenetv2/latest.pth"
    copy.run(five_shots, copy.imagenet, "TRAIN.mid_stages=[-2]", weight, *overrides(copy.home / "data"))
    (folder,) = re.findall(r"TRAIN\.save_path=(\S+)", five_shots.text)
    assert read_json(copy.project / folder / "results.json")["protocol"]["shots"] == 5

    (report,) = documented("docs/training.md", r"engine\.report")
    rows = copy.run(report).splitlines()[2:]
    assert [row.split()[-1] for row in rows] == [folder]


@pytest.mark.slow
def test_a_few_masks_as_the_page_has_them(tmp_path: Path) -> None:
    """The block "A few masks" of docs/own_images.md: six of ten images have a mask, predicted or painted in white."""
    copy = Copy(tmp_path)
    for number in range(6):
        _, label = draw_labelled(0)
        write_label(copy.home / "corrected" / f"{number}_mask.png", label * (255 if number < 3 else 1))
    commands = documented("docs/own_images.md", "")
    start = next(row for row, command in enumerate(commands) if "~/corrected" in command.text)
    for row in range(start, start + 4):
        copy.run(commands[row], *([copy.imagenet] if row > start else []))
    results = read_json(copy.project / "exp/mine/joint_mobilenetv2/results.json")
    assert results["protocol"]["label_use"] == "all classes" and results["protocol"]["known_classes"] == [1]
    assert results["per_class"].keys() == {"1"}


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_backbone_is_imported(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(0)
    state = {f"module.encoder_q.{name}": value for name, value in timm.create_model("resnet50").state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "IN.pth")
    import_published([str(tmp_path / "IN.pth"), str(tmp_path / f"OUT.{suffix}")])
    read = load_file if suffix == "safetensors" else torch.load
    imported = read(tmp_path / f"OUT.{suffix}")
    assert torch.equal(imported["conv1.weight"], state["module.encoder_q.conv1.weight"])
    timm.create_model("resnet50").load_state_dict(imported, strict=False)


def test_pretraining(tmp_path: Path) -> None:
    """The second command of initmodel/README.md, for one epoch."""
    images = write_images(tmp_path, 4).root / "JPEGImages"
    (command,) = documented("initmodel/README.md", r"masks\.pretrain")
    command_line = command.arguments()[command.arguments().index("masks.pretrain") + 1 :]
    assert command_line[2:] == ["--size", "64", "--epochs", "90", "--queue", "1024"]
    out = tmp_path / "mine.safetensors"
    small = ["--size", "32", "--epochs", "1", "--queue", "8", "--batch", "4", "--workers", "0"]
    pretrain([str(images), str(out), *small])
    network = timm.create_model("mobilenetv2_050", features_only=True, output_stride=8)
    network.load_state_dict(load_file(out))


def test_the_checksum_of_a_list(tmp_path: Path) -> None:
    """The command of lists/README.md prints what identifies a list, whatever its order."""
    images = write_images(tmp_path, 5)
    lines = (tmp_path / "train.txt").read_text().splitlines()
    write_list(tmp_path / "turned.txt", [(line, f"{line}.png") for line in reversed(lines)])
    (command,) = documented("lists/README.md", "sha256sum")
    text = command.text.replace("lists/pascal/val.txt", str(tmp_path / "turned.txt"))
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == images.digest
