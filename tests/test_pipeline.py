"""The whole chain on drawn pictures, in the commands a user types: masks, training, test, errors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import test as test_command
import train as train_command
from engine.scores import read_scores
from episodes.build import training_episodes, training_images
from model import load_model
from model.checkpoints import provenance, read_network
from tests.workspace import Workspace, equal
from util.config import load_config

pytest_plugins = ["tests.workspace"]


def test_same_seed_same_weights_another_seed_others(workspace: Workspace) -> None:
    first = workspace.train("first")
    assert equal(first, workspace.train("second", "TRAIN.workers=2"))
    assert not equal(first, workspace.train("third", "TRAIN.manual_seed=5"))


def test_two_tests_give_the_same_results_and_record_how_they_were_measured(workspace: Workspace) -> None:
    workspace.train("tested")
    first = workspace.test("tested")
    assert workspace.test("tested", "TRAIN.workers=4") == first
    assert set(first) >= {"miou", "fb_iou", "per_class", "protocol"}
    protocol = first["protocol"]
    assert isinstance(protocol, dict)
    assert protocol["episodes"] == 10
    assert protocol["label_use"] == "none"
    assert set(protocol) >= {"dataset", "val_list", "split", "shots", "seed", "size", "checkpoint", "compat"}
    assert (workspace.root / "tested" / "examples.png").is_file()
    assert (workspace.root / "tested" / "worst.png").is_file()
    assert len(read_scores(workspace.root / "tested")) == 10


def test_a_shared_folder_is_tested_as_its_checkpoint_is(workspace: Workspace) -> None:
    workspace.train("first")
    checkpoint = f"TRAIN.weight={workspace.root}/first/latest.pth"
    load_model(workspace.root / "first" / "latest.pth").save_pretrained(workspace.root / "shared")
    ours = workspace.test("from_checkpoint", checkpoint)
    shared = workspace.test("from_folder", f"TRAIN.weight={workspace.root}/shared")
    assert ours["per_class"] == shared["per_class"]
    assert "shared" in str(shared["protocol"])


def test_a_published_network_is_tested_the_same_twice(workspace: Workspace) -> None:
    """Its clustering draws from the global generators in tests too."""
    workspace.train("published", "TRAIN.compat=published", experiment="split0_demo")
    first = workspace.test("published", "TRAIN.compat=published")
    torch.rand(3)
    assert workspace.test("published", "TRAIN.compat=published") == first


def test_methods_without_training_run_in_the_same_loop(workspace: Workspace) -> None:
    results = {
        method: workspace.test(f"method_{method}", "--method", method)
        for method in ("foreground", "prototype", "nearest", "untrained")
    }
    assert results["foreground"]["predicted_object"] == 100
    truths = {result["true_object"] for result in results.values()}
    assert len(truths) == 1


def test_single_episodes_are_those_of_the_test(
    workspace: Workspace, fails: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Their captions have the IoU of ``episodes.csv``, whatever the batch, and nothing of the test is written anew."""
    workspace.train("inspected")
    weight = f"TRAIN.weight={workspace.root}/inspected/latest.pth"
    for name, words in {
        "inspected": ["TRAIN.batch_size_val=4"],
        "inspected_nearest": ["--method", "nearest", weight],
        "inspected_shots": ["TRAIN.shot=3", weight],
    }.items():
        workspace.test(name, *words)
        folder = workspace.root / name
        written = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        capsys.readouterr()
        test_command.main(["shapes", "split0_demo", *workspace.overrides(name), *words, "--inspect", "9", "2", "9"])
        said = capsys.readouterr().err
        scores = read_scores(folder)
        for number in (9, 2):
            (caption,) = [line for line in said.splitlines() if line.endswith(f"episode {number}")]
            assert f"inspected_{number}.png: IoU {100 * scores[number].areas.object_iou:.1f} %" in caption
            assert Path(scores[number].query).name in caption
        now = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        assert now.keys() - written.keys() == {"inspected_9.png", "inspected_2.png"}
        assert {path: now[path] for path in written} == written
    arguments = ["shapes", "split0_demo", *workspace.overrides("inspected")]
    message = fails(test_command.main, [*arguments, "--inspect", "2", "10"])
    assert "--inspect 10: no such episode; the test has those from 0 to 9" in message
    assert "not allowed" in fails(test_command.main, [*arguments, "--every-photograph", "--inspect", "2"])
    arguments.append("TRAIN.seeds=[5,6]")
    assert "--inspect tests one network" in fails(test_command.main, [*arguments, "--inspect", "2"])


def test_a_published_network_predicts_no_episode_alone(workspace: Workspace, fails: Callable[..., str]) -> None:
    workspace.train("published_alone", "TRAIN.compat=published", "TRAIN.epochs=1", experiment="split0_demo")
    arguments = ["shapes", "split0_demo", *workspace.overrides("published_alone", "TRAIN.compat=published")]
    assert "draws for one episode after the other" in fails(test_command.main, [*arguments, "--inspect", "2"])


def short_list(workspace: Workspace, count: int) -> Path:
    """The first photographs of the test list."""
    lines = (workspace.root / "lists" / "val.txt").read_text().splitlines()[:count]
    path = workspace.root / "lists" / f"first_{count}.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_every_photograph_for_each_class(workspace: Workspace) -> None:
    """30 photographs; a network and a method without training, whatever the batch, in a folder of their own."""
    short = short_list(workspace, 30)
    workspace.train("for_a_folder", "TRAIN.epochs=1")
    weight = f"TRAIN.weight={workspace.root}/for_a_folder/latest.pth"
    tables = []
    for name, words in {
        "folder_network": [weight],
        "folder_network_again": [weight, "TRAIN.batch_size_val=7"],
        "folder_nearest": ["--method", "nearest", weight],
    }.items():
        words += [f"DATA.val_list={short}", "--every-photograph"]
        results: Any = workspace.test(name, *words)
        tables.append((workspace.root / name / "photographs.csv").read_bytes())
        assert {"folder_iou", "presence_auc", "presence_ap", "false_area", "protocol"} <= {*results}
        assert results["protocol"]["episodes"] == len(results["per_class"]) * 29
        assert not (workspace.root / name / "episodes.csv").exists()
    assert tables[0] == tables[1] != tables[2]


def test_a_classifier_tells_where_the_object_is(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """It is kept through training, reading again, fine-tuning and tests; weights without one do without."""
    whole = load_file(workspace.weights)
    bare = workspace.root / "without_classifier.safetensors"
    save_file({name: tensor for name, tensor in whole.items() if "classifier" not in name}, bare)
    for name, weights in (("with", workspace.weights), ("without", bare)):
        words = ["TRAIN.class_scores=true", f"TRAIN.backbone_weights={weights}", "TRAIN.epochs=1"]
        for _ in range(2):  # the second time it is read again, and nothing is left to train
            workspace.train(f"class_scores_{name}", *words)
        weight = workspace.root / f"class_scores_{name}" / "latest.pth"
        tuned = f"class_scores_{name}_tuned"
        workspace.train(tuned, words[0], f"TRAIN.weight={weight}", "TRAIN.epochs=1", experiment="split0_demo")
        said = capsys.readouterr().err
        model = load_model(weight)
        assert (model.backbone.class_head is not None) == (name == "with")
        said_of_presence = re.findall(r"an object is there from|do not tell whether an object is in an image", said)
        assert len(said_of_presence) == (2 if name == "with" else 0)
        words = [f"TRAIN.weight={workspace.root}/{tuned}/latest.pth", f"DATA.val_list={short_list(workspace, 20)}"]
        results: Any = workspace.test(tuned, *words, "--every-photograph")
        gate = results["protocol"]["gate"]
        threshold = load_model(workspace.root / tuned / "latest.pth").presence_threshold
        assert gate == "none" if threshold is None else gate.endswith(f"similarity {threshold:.3f} expected in it")
        assert name == "with" or threshold is None


def test_unsupervised_training_opens_no_label(workspace: Workspace) -> None:
    labels, hidden = (workspace.root / "shapes" / name for name in ("SegmentationClassAug", "moved_away"))
    with_labels = workspace.train("with_labels")
    pseudo_masks = json.loads((workspace.root / "with_labels" / "pseudo_masks.json").read_text())
    assert not pseudo_masks["labels"]["labels_used"]
    labels.rename(hidden)
    try:
        assert equal(with_labels, workspace.train("without_labels"))
    finally:
        hidden.rename(labels)


def test_supervised_training_records_which_labels_it_used(workspace: Workspace) -> None:
    workspace.train("pretrained")
    initial = f"TRAIN.weight={workspace.root}/pretrained/latest.pth"
    workspace.train("tuned", "TRAIN.epochs=1", "DATA.min_area=20", initial, experiment="split0_demo")
    results = workspace.test("tuned")
    assert results["protocol"]["label_use"] == "fold 0 training classes"  # type: ignore[index]


def test_a_test_of_classes_that_were_trained_on_says_so(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.train("known", "TRAIN.epochs=1", "DATA.min_area=20", experiment="split0_demo")
    weight = f"TRAIN.weight={workspace.root}/known/latest.pth"
    capsys.readouterr()
    novel = workspace.test("known")
    assert "not novel" not in capsys.readouterr().err and "known_classes" not in novel["protocol"]  # type: ignore[operator]
    results = workspace.test("known_classes", weight, "DATA.min_area=20", experiment="split1_demo")
    assert results["protocol"]["known_classes"] == [6, 7, 8, 9, 10]  # type: ignore[index]
    warning = "trained with the labels of classes of this test, so they are not novel: 6, 7, 8, 9, 10\n"
    assert warning in capsys.readouterr().err


def test_supervised_training_on_all_classes_says_so(workspace: Workspace, messages: list[str]) -> None:
    config = load_config("shapes", "split0_demo", workspace.overrides("all_classes", "DATA.min_area=20"))
    config = config.model_copy(update={"TRAIN": config.TRAIN.model_copy(update={"split": 5})})
    training_episodes(config, training_images(config))
    assert messages == ["TRAIN.split=5: all classes are trained on with labels, a test knows its classes"]


def test_validation_keeps_the_best(workspace: Workspace) -> None:
    workspace.train("validated", "TRAIN.evaluate=true", "TRAIN.best_on_validation=true", "TRAIN.epochs=1")
    latest, best = (
        provenance(read_network(workspace.root / "validated" / name)) for name in ("latest.pth", "best.pth")
    )
    assert (latest["label_use"], best["label_use"]) == ("none", "none; chosen by the labels of val.txt")
    record = json.loads((workspace.root / "validated" / "epochs.jsonl").read_text())
    assert 0 <= record["validation_miou"] <= 1


def test_missing_checkpoints(workspace: Workspace, fails: Callable[..., str]) -> None:
    message = fails(test_command.main, ["shapes", "split0_demo", *workspace.overrides("nothing_here")])
    assert "no checkpoint here; train it with `bash train.sh shapes split0_demo`" in message
    for key in ("TRAIN.weight", "TRAIN.resume"):
        overrides = workspace.overrides("nothing_here", f"{key}={workspace.root}/gone.pth")
        assert "gone.pth" in fails(train_command.main, ["shapes", "ssl_demo", *overrides])


def test_missing_backbone_weights(workspace: Workspace, fails: Callable[..., str]) -> None:
    overrides = workspace.overrides("no_weights", f"TRAIN.backbone_weights={workspace.root}/gone.pth")
    message = fails(train_command.main, ["shapes", "ssl_demo", *overrides])
    assert "gone.pth: weights not found" in message
    assert "README.md" in message


def test_weights_of_another_network(workspace: Workspace, fails: Callable[..., str]) -> None:
    workspace.train("small")
    overrides = workspace.overrides("wide", "TRAIN.hidden_dims=32", f"TRAIN.weight={workspace.root}/small/latest.pth")
    message = fails(train_command.main, ["shapes", "ssl_demo", *overrides])
    assert "hidden_dims is 16 there, 32 expected" in message


def test_pseudo_masks_of_other_settings(workspace: Workspace, fails: Callable[..., str]) -> None:
    overrides = workspace.overrides("other_masks", "DATA.min_area=300")
    message = fails(train_command.main, ["shapes", "ssl_demo", *overrides])
    assert "min_area is 200 there, 300 expected" in message


def test_batch_larger_than_an_epoch(workspace: Workspace, fails: Callable[..., str]) -> None:
    overrides = workspace.overrides("large_batch", "TRAIN.batch_size=64")
    message = fails(train_command.main, ["shapes", "ssl_demo", *overrides])
    assert "TRAIN.batch_size=64 is more than the 4 episodes of an epoch" in message


def test_a_checkpoint_that_is_not_one(workspace: Workspace, fails: Callable[..., str]) -> None:
    torch.save({"state_dict": {}}, workspace.root / "foreign.pth")
    overrides = workspace.overrides("foreign", f"TRAIN.weight={workspace.root}/foreign.pth")
    message = fails(test_command.main, ["shapes", "split0_demo", *overrides])
    assert "not a checkpoint of this software" in message


@pytest.mark.parametrize("command", [train_command, test_command])
def test_unknown_names_and_keys(fails: Callable[..., str], command: object) -> None:
    main = command.main  # type: ignore[attr-defined]
    assert "no dataset 'moon'" in fails(main, ["moon", "ssl_demo"])
    assert "there are: " in fails(main, ["shapes", "split9_demo"])
    message = fails(main, ["shapes", "ssl_demo", "TRAIN.epoch=3", "TRAIN.shot=many"])
    assert "unknown key 'TRAIN.epoch'" in message
    assert "TRAIN.shot='many'" in message


def test_images_and_lists_that_cannot_be_used(workspace: Workspace, fails: Callable[..., str]) -> None:
    listed = (workspace.root / "lists" / "val.txt").read_text().splitlines()
    broken = workspace.root / "broken.txt"
    broken.write_text("\n".join([*listed[:2], "JPEGImages/gone.jpg SegmentationClassAug/gone.png"]))
    arguments = ["shapes", "split0_demo", "--method", "nearest"]
    message = fails(test_command.main, [*arguments, *workspace.overrides("broken", f"DATA.val_list={broken}")])
    assert "broken.txt" in message
    assert "line 3" in message or ":3" in message
    assert "gone.jpg" in message
