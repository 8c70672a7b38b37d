"""The probe: its figure against a plain loop, cases with a known answer, and that it leaves the training alone."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import masks.pretrain.__main__
import masks.pretrain.probe
import masks.pretrain.training
from episodes.lists import ImageList, read_list, write_list
from masks.pretrain.probe import Probe, Regions, comparable, neighbour_accuracy
from masks.pretrain.training import pretrain
from masks.pretrain.unlabelled_images import find_images
from tests.masks.pretrain.pretraining import TINY, draw_images, same
from util.errors import UserError
from util.images import write_image, write_label

COLOURS = {1: (250, 10, 10), 2: (10, 250, 10), 3: (10, 10, 250)}


class Colours(nn.Module):
    """Three times the image itself at half its size: the mean over a region is its colour."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        return [self.scale * nn.functional.avg_pool2d(pixels, 2)] * 3


def draw_labelled(root: Path, classes: list[list[int]]) -> ImageList:
    """An image for each list of classes, which stand in it as upright stripes of the class's colour."""
    for row, shown in enumerate(classes):
        label = np.repeat(np.array([0, *shown, 255], dtype=np.uint8), 20)[None].repeat(40, axis=0)
        image = np.zeros((*label.shape, 3), dtype=np.uint8)
        for value in shown:
            image[label == value] = COLOURS[value]
        write_image(root / f"{row}.png", image)
        write_label(root / "labels" / f"{row}.png", label)
    write_list(root / "list.txt", [(f"{row}.png", f"labels/{row}.png") for row in range(len(classes))])
    return read_list(root / "list.txt", root, need_labels=True)


def make_probe(labelled: ImageList) -> Probe:
    return Probe(labelled, shorter_side=64, every=1, log=labelled.root / "probe.jsonl")


def measurement(probe: Probe) -> dict[str, float]:
    """The last line of the probe's log."""
    last: dict[str, float] = json.loads(probe.log.read_text().splitlines()[-1])
    return last


def naive_accuracy(regions: Regions) -> float:
    """As the docstring of ``neighbour_accuracy`` says it, one region at a time."""
    hits: dict[int, list[bool]] = defaultdict(list)
    for feature, answer, image in zip(*regions, strict=True):
        others = [
            (float(feature @ other / math.sqrt((feature @ feature) * (other @ other))), int(value))
            for other, value, place in zip(*regions, strict=True)
            if place != image
        ]
        votes: Counter[int] = Counter()
        for cosine, value in sorted(others, reverse=True)[:20]:
            votes[value] += math.exp(cosine / 0.07)  # type: ignore[assignment]
        hits[int(answer)].append(votes.most_common(1)[0][0] == answer)
    return sum(sum(answers) / len(answers) for answers in hits.values()) / len(hits)


@pytest.mark.parametrize("count", [12, 90])
def test_accuracy_equals_a_plain_loop(count: int) -> None:
    """90 regions of 30 images, some of one class in the same image; 12 have fewer neighbours than vote."""
    random = np.random.default_rng(count)
    classes = random.choice([1, 2, 2, 2, 9], size=count)
    features = random.normal(size=(count, 8)) + 0.7 * np.eye(10, 8)[classes]
    regions = Regions(features.astype(np.float32), classes, random.integers(count // 3, size=count))
    accuracy = neighbour_accuracy(regions)
    assert 0.2 < accuracy < 1
    assert accuracy == pytest.approx(naive_accuracy(regions), abs=1e-9)


def test_colours_tell_all_regions_apart(tmp_path: Path) -> None:
    probe = make_probe(draw_labelled(tmp_path, [[1, 2], [2, 3], [3, 1], [1, 2, 3], []]))
    probe.measure(Colours(), epoch=0)
    assert measurement(probe) == {"epoch": 0, "accuracy": 1.0, "chance": 0.3333, "classes": 3, "regions": 9}


def test_equal_features_are_at_chance() -> None:
    """All regions alike: all get the class that most have, so one of three classes is right."""
    regions = Regions(np.ones((40, 4), np.float32), np.repeat([1, 2, 3], [20, 10, 10]), np.arange(40))
    assert neighbour_accuracy(regions) == pytest.approx(1 / 3, abs=0.01)


def test_regions_of_the_own_image_do_not_vote() -> None:
    """Each region's twin has its class, but stands in the same image; every other one is of the other class."""
    features = np.array([[1, 0], [1, 0], [1, 0.1], [1, 0.1]], dtype=np.float32)
    assert neighbour_accuracy(Regions(features, np.array([1, 1, 2, 2]), np.array([0, 0, 1, 1]))) == 0


def test_classes_of_a_single_image_are_left_out(tmp_path: Path) -> None:
    probe = make_probe(draw_labelled(tmp_path, [[1, 2], [2, 1], [3]]))
    probe.measure(Colours(), epoch=3)
    assert measurement(probe) == {"epoch": 3, "accuracy": 1.0, "chance": 0.5, "classes": 2, "regions": 4}


def test_processes_share_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = make_probe(draw_labelled(tmp_path, [[1, 2], [2, 3], [3, 1]]))
    whole = probe._regions(Colours())
    monkeypatch.setattr(masks.pretrain.probe, "world_size", lambda: 2)
    shares: list[list[tuple[int, int, np.ndarray]]] = []

    def gathered(own: list[tuple[int, int, np.ndarray]]) -> list[list[tuple[int, int, np.ndarray]]]:
        shares.append(own)
        return [own]

    monkeypatch.setattr(masks.pretrain.probe, "gathered", gathered)
    for own_rank in (0, 1):
        monkeypatch.setattr(masks.pretrain.probe, "rank", lambda own_rank=own_rank: own_rank)
        probe._regions(Colours())
    assert [sorted({row for row, _, _ in share}) for share in shares] == [[0, 2], [1]]
    monkeypatch.setattr(masks.pretrain.probe, "gathered", lambda own: shares)
    assert all(np.array_equal(*columns) for columns in zip(whole, probe._regions(Colours()), strict=True))


@pytest.mark.parametrize(("classes", "count"), [([[], []], 0), ([[1], [1]], 1), ([[1, 2], [1]], 2)])
def test_labels_without_objects_to_compare_are_refused(tmp_path: Path, classes: list[list[int]], count: int) -> None:
    probe = make_probe(draw_labelled(tmp_path, classes))
    with pytest.raises(UserError, match=rf"list\.txt: the probe needs objects of two classes.*have {count} classes"):
        probe.measure(Colours(), epoch=0)


def test_label_of_another_size_is_named(tmp_path: Path) -> None:
    probe = make_probe(draw_labelled(tmp_path, [[1, 2], [2, 1]]))
    write_label(tmp_path / "labels/1.png", np.ones((10, 20), dtype=np.uint8))
    with pytest.raises(UserError, match=r"labels/1\.png: the label is 20x10 pixels, but .*1\.png is 80x40"):
        probe.measure(Colours(), epoch=0)


def test_backbone_is_left_as_it_is(tmp_path: Path) -> None:
    backbone = nn.Sequential(nn.BatchNorm2d(3), Colours()).train()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    make_probe(draw_labelled(tmp_path, [[1, 2], [2, 1]])).measure(backbone, epoch=0)
    assert same(before, backbone.state_dict())
    assert backbone.training and all(parameter.requires_grad for parameter in backbone.parameters())


def test_probe_changes_no_weight_and_a_resumed_run_repeats_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = draw_images(tmp_path / "images")
    labelled = draw_labelled(tmp_path / "labelled", [[1, 2], [2, 3], [3, 1]])
    paths, plain, probed = find_images(folder, None), tmp_path / "plain.safetensors", tmp_path / "probed.safetensors"
    pretrain(paths, plain, TINY, workers=0)
    save_state = masks.pretrain.training.PretrainFiles.save_state

    def interrupted(*arguments: object, epochs: int) -> None:
        if epochs == TINY.epochs:
            raise KeyboardInterrupt
        save_state(*arguments, epochs=epochs)  # type: ignore[arg-type]

    monkeypatch.setattr(masks.pretrain.training.PretrainFiles, "save_state", interrupted)
    probe = make_probe(labelled)
    with pytest.raises(KeyboardInterrupt):  # after the last line was written, before its epoch was saved
        pretrain(paths, probed, TINY, workers=0, probe=probe)
    interrupted_log = probe.log.read_text()
    monkeypatch.undo()
    pretrain(paths, probed, TINY, workers=0, probe=make_probe(labelled))
    assert [json.loads(line)["epoch"] for line in interrupted_log.splitlines()] == [0, 1, 2]
    assert probe.log.read_text() == interrupted_log
    assert same(load_file(plain), load_file(probed))


@pytest.mark.parametrize(
    ("command_line", "message"),
    [
        (["--probe", "list.txt"], r"--probe list\.txt: needs --root, the folder where the list's paths start"),
        (["--probe", "list.txt", "--root", ".", "--probe_every", "0"], "--probe_every: 0 is not a number from 1"),
        (["--probe", "list.txt", "--root", "."], "list.txt, line 1: no label after 0.png"),
    ],
)
def test_probe_that_cannot_be_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command_line: list[str], message: str
) -> None:
    draw_images(tmp_path)
    (tmp_path / "list.txt").write_text("0.png\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        masks.pretrain.__main__.main([".", "weights.safetensors", *command_line])


def test_how_often_to_probe(tmp_path: Path) -> None:
    probe = Probe(draw_labelled(tmp_path, [[1]]), shorter_side=64, every=3, log=tmp_path / "probe.jsonl")
    assert [epoch for epoch in range(1, 9) if probe.is_due(epoch, 8)] == [3, 6, 8]


def test_lone_classes_are_found() -> None:
    regions = Regions(np.arange(8, dtype=np.float32).reshape(4, 2), np.array([1, 2, 1, 5]), np.array([0, 0, 1, 1]))
    with pytest.raises(UserError, match="the labels have 3 classes"):
        comparable(regions, Path("list.txt"))
