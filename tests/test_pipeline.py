"""The whole chain on drawn pictures, in the commands a user types: masks, training, test, interruption, errors."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file

import test as test_command
import train as train_command
from engine.scores import read_scores
from episodes.build import training_episodes, training_images
from masks import create
from model import load_model
from model.checkpoints import provenance
from prepare.__main__ import main as prepare
from util.config import load_config
from util.errors import run_command
from util.files import PROJECT, read_json, write_json

SIZE = 65
_LOCK_HOLDER = """
import sys, time
from pathlib import Path
from util.locks import only_process_in
with only_process_in(Path(sys.argv[1]), sys.argv[2]):
    print(flush=True)
    time.sleep(60)
"""


class Workspace:
    """A folder with drawn shapes, weights of a narrow backbone and pseudo masks."""

    def __init__(self, root: Path) -> None:
        self.root = root
        prepare(
            ["shapes", "--root", str(root / "shapes"), "--lists", str(root / "lists"), "--train", "80", "--val", "90",
             "--size", "80", "--workers", "1"]
        )  # fmt: skip
        self.weights = root / "backbone.safetensors"
        torch.manual_seed(0)
        save_file(timm.create_model("mobilenetv2_035").state_dict(), self.weights)
        create.main([str(root), "shapes", *self.mask_overrides])

    @property
    def mask_overrides(self) -> list[str]:
        return [
            "experiment=ssl_demo", "extractor=timm:mobilenetv2_035", f"weights={self.weights}", "TRAIN.workers=0",
            f"list={self.root}/lists/train.txt", "DATA.min_area=200", "Cluster.assign_size=64",
        ]  # fmt: skip

    def overrides(self, run: str, *more: str) -> list[str]:
        """``key=value`` arguments for a small network that keeps its run in ``root/run``."""
        return [
            f"DATA.data_root={self.root}/shapes", f"DATA.train_list={self.root}/lists/train.txt",
            f"DATA.val_list={self.root}/lists/val.txt", "DATA.min_area=200", "Cluster.extractor=timm:mobilenetv2_035",
            f"Cluster.extractor_weights={self.weights}", "Cluster.assign_size=64", "TRAIN.backbone=mobilenetv2_035",
            f"TRAIN.backbone_weights={self.weights}", f"TRAIN.train_h={SIZE}", f"TRAIN.train_w={SIZE}",
            f"TRAIN.val_size={SIZE}", "TRAIN.hidden_dims=16", "TRAIN.batch_size=2", "TRAIN.epoch_episodes=4",
            "TRAIN.epochs=2", "TRAIN.workers=0", "TRAIN.episodes=10", "VIS.pictures=2",
            f"TRAIN.save_path={self.root}/{run}", *more,
        ]  # fmt: skip

    def train(self, run: str, *more: str, experiment: str = "ssl_demo") -> dict[str, torch.Tensor]:
        """The weights after training."""
        train_command.main(["shapes", experiment, *self.overrides(run, *more)])
        return load_model(self.root / run / "latest.pth").state_dict()

    def test(self, run: str, *more: str, experiment: str = "split0_demo") -> dict[str, object]:
        """The results of a test."""
        test_command.main(["shapes", experiment, *self.overrides(run), *more])
        results: dict[str, object] = json.loads((self.root / run / "results.json").read_text())
        return results


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("pipeline"))


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must end with exit code 2 and one line on stderr; returns the line."""

    def run(main: Callable[[list[str]], None], arguments: list[str]) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            run_command(main, arguments)
        assert stop.value.code == 2
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        return errors[0]

    return run


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_same_seed_same_weights_another_seed_others(workspace: Workspace) -> None:
    first = workspace.train("first")
    assert equal(first, workspace.train("second", "TRAIN.workers=2"))
    assert not equal(first, workspace.train("third", "TRAIN.manual_seed=5"))


@pytest.mark.slow
def test_a_killed_run_continues_to_the_same_weights(workspace: Workspace) -> None:
    uninterrupted = workspace.train("uninterrupted", "TRAIN.epochs=4")
    overrides = workspace.overrides("killed", "TRAIN.epochs=4")
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, str(PROJECT / "train.py"), "shapes", "ssl_demo", *overrides],
        env=environment, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    checkpoint = workspace.root / "killed" / "latest.pth"
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = torch.load(checkpoint, weights_only=True)["epoch"]
    assert 1 <= finished <= 4
    assert equal(uninterrupted, workspace.train("killed", "TRAIN.epochs=4"))
    epochs = [json.loads(line)["epoch"] for line in (workspace.root / "killed/epochs.jsonl").read_text().splitlines()]
    assert epochs == [1, 2, 3, 4]


@pytest.mark.slow
def test_term_ends_a_training_in_one_line(workspace: Workspace) -> None:
    overrides = workspace.overrides("terminated", "TRAIN.epochs=1000", "TRAIN.workers=2")
    process = subprocess.Popen(
        ["sh", str(PROJECT / "train.sh"), "shapes", "ssl_demo", *overrides], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    while "iteration" not in process.stderr.readline():
        assert process.poll() is None
    process.terminate()
    *lines, last = process.communicate()[1].splitlines()
    assert process.returncode == 143
    assert last == "interrupted: the same command continues from what is on the disk"
    assert not [line for line in lines if "iteration" not in line]


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
    workspace.test("known")
    assert "not novel" not in capsys.readouterr().err
    workspace.test("known_classes", weight, "DATA.min_area=20", experiment="split1_demo")
    warning = "trained with the labels of classes of this test, so they are not novel: 6, 7, 8, 9, 10\n"
    assert warning in capsys.readouterr().err


def test_supervised_training_on_all_classes_says_so(workspace: Workspace, messages: list[str]) -> None:
    config = load_config("shapes", "split0_demo", workspace.overrides("all_classes", "DATA.min_area=20"))
    config = config.model_copy(update={"TRAIN": config.TRAIN.model_copy(update={"split": 5})})
    training_episodes(config, training_images(config))
    assert messages == ["TRAIN.split=5: the labels of all classes are trained on, none is left to test on"]


def test_the_advice_after_a_loss_that_is_not_finite(workspace: Workspace, fails: Callable[..., str]) -> None:
    """It holds with a checkpoint of before and without one."""
    workspace.train("before_nan", "TRAIN.epochs=1")
    weight = f"TRAIN.weight={workspace.root}/before_nan/latest.pth"
    for word in ("TRAIN.weight=", weight):
        overrides = workspace.overrides("nan", "TRAIN.epochs=1", "TRAIN.base_lr=1e30", "TRAIN.print_freq=1", word)
        message = fails(train_command.main, ["shapes", "ssl_demo", *overrides])
        assert "use a smaller TRAIN.base_lr or TRAIN.transformer_lr and another TRAIN.save_path; " in message
        workspace.train(f"after_nan{len(word)}", "TRAIN.epochs=1", word)


def test_validation_keeps_the_best(workspace: Workspace) -> None:
    workspace.train("validated", "TRAIN.evaluate=true", "TRAIN.best_on_validation=true", "TRAIN.epochs=1")
    latest, best = (provenance(workspace.root / "validated" / name) for name in ("latest.pth", "best.pth"))
    assert (latest["label_use"], best["label_use"]) == ("none", "none; chosen by the labels of val.txt")
    record = json.loads((workspace.root / "validated" / "epochs.jsonl").read_text())
    assert 0 <= record["validation_miou"] <= 1


def test_another_config_in_the_same_run_folder(workspace: Workspace, fails: Callable[..., str]) -> None:
    workspace.train("taken")
    overrides = workspace.overrides("taken", "TRAIN.base_lr=0.5", "TRAIN.print_freq=3")
    message = fails(train_command.main, ["shapes", "ssl_demo", *overrides])
    assert "TRAIN.base_lr is 0.002 there, 0.5 expected" in message
    assert "print_freq" not in message


def test_finished_run_has_nothing_left_to_do(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    workspace.train("finished")
    run, other = workspace.root / "finished", workspace.root / "finished_elsewhere"
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name not in ("log.txt", ".lock")}
    capsys.readouterr()
    workspace.train("finished")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list((run / "tensorboard").iterdir())) == 1
    last_line = f"nothing left to train: {run / 'latest.pth'} has all 2 epochs"
    assert capsys.readouterr().err.splitlines()[-1].endswith(last_line)
    train_command.main(["shapes", "ssl_demo", *workspace.overrides(other.name, f"TRAIN.resume={run}/latest.pth")])
    assert capsys.readouterr().err.splitlines()[-1].endswith(last_line)
    assert not (other / "latest.pth").exists()


def test_a_run_goes_on_with_its_own_data_only(workspace: Workspace, fails: Callable[..., str]) -> None:
    """A list and pseudo masks that are no longer those that the run began with, under the same names."""
    lists = [workspace.root / name for name in ("list.txt", "pseudo")]
    lists[0].write_text((workspace.root / "lists" / "train.txt").read_text())
    shutil.copytree(workspace.root / "shapes" / "shapes_mobilenetv2_035_pseudo", lists[1])
    words = {
        "split0_demo": ["TRAIN.epochs=1", f"DATA.train_list={lists[0]}"],
        "ssl_demo": ["TRAIN.epochs=1", f"Cluster.pseudo_folder={lists[1]}"],
    }
    for experiment, more in words.items():
        workspace.train(f"own_data_{experiment}", *more, experiment=experiment)
    lists[0].write_text("\n".join(lists[0].read_text().splitlines()[:-1]))
    write_json(lists[1] / "manifest.json", {**read_json(lists[1] / "manifest.json"), "software": {}})
    for experiment, names in (("split0_demo", ("train_list", "labels")), ("ssl_demo", ("pseudo_masks",))):
        overrides = workspace.overrides(f"own_data_{experiment}", *words[experiment])
        message = fails(train_command.main, ["shapes", experiment, *overrides])
        assert re.findall(r"training_data\.(\w+) is \w{12} there, \w{12} expected", message) == [*names]


@pytest.mark.parametrize("content", [b"- 1", b"\xff\x00\x80"])
def test_the_configuration_in_a_run_folder_is_for_people(workspace: Workspace, content: bytes) -> None:
    """What decides is the checkpoint; a broken file is replaced."""
    file = workspace.root / "described" / "config.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    workspace.train("described", "TRAIN.epochs=1")
    assert yaml.safe_load(file.read_text())["TRAIN"]["epochs"] == 1
    shutil.rmtree(file.parent)


def test_a_start_that_fails_claims_nothing(workspace: Workspace, fails: Callable[..., str]) -> None:
    """The advice can be followed in the same folder."""
    for word in ("TRAIN.batch_size=64", "TRAIN.train_h=66", f"TRAIN.backbone_weights={workspace.root}/gone.pth"):
        fails(train_command.main, ["shapes", "ssl_demo", *workspace.overrides("failed_start", word)])
        assert not (workspace.root / "failed_start" / "config.yaml").exists()
    workspace.train("failed_start", "TRAIN.epochs=1")


def test_places_that_cannot_be_a_run_folder(workspace: Workspace, fails: Callable[..., str]) -> None:
    (workspace.root / "file").touch()
    places = {"/proc/here": "no folder can be made here", f"{workspace.root}/file": "a folder is needed here"}
    for place, reason in places.items():
        message = fails(train_command.main, ["shapes", "ssl_demo", *workspace.overrides("x", f"save_path={place}")])
        assert message.startswith(f"error: {place}: ") and reason in message


def test_one_training_and_one_test_at_a_time_in_a_run_folder(workspace: Workspace, fails: Callable[..., str]) -> None:
    """A test may look at what a training has saved so far."""
    folder = workspace.root / "taken_by_two"
    for lock, main, experiment in (
        (".lock", train_command.main, "ssl_demo"), (".test.lock", test_command.main, "split0_demo"),
    ):  # fmt: skip
        arguments = [experiment, *workspace.overrides("taken_by_two", "TRAIN.epochs=1")]
        holder = subprocess.Popen(
            [sys.executable, "-c", _LOCK_HOLDER, str(folder), lock], cwd=PROJECT, stdout=subprocess.PIPE
        )
        assert holder.stdout is not None
        holder.stdout.readline()
        message = fails(main, ["shapes", *arguments])
        holder.kill()
        holder.communicate()
        assert message == f"error: {folder}: process {holder.pid} is working here; wait for it or choose another folder"
        main(["shapes", *arguments])


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
