"""The command from images to pseudo folder: what it writes, twice the same, killed and continued."""

from __future__ import annotations

import importlib
import itertools
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import masks.creation
import masks.recipes.clusters
from episodes.lists import write_list
from masks.command_line import choose_config
from masks.create import main
from masks.pseudo_folder import PseudoFolder
from masks.recipes import find_recipe
from masks.regions import RegionFilter, kept_regions
from prepare.__main__ import main as prepare
from tests.masks.small_images import COUNT, arguments, draw_image, write_extractor, write_images
from util.errors import UserError, run_command
from util.files import PROJECT, read_json
from util.images import read_image, read_label, write_image


def _content(folder: Path) -> dict[str, bytes]:
    """Bytes of the files; the lock holds a number of the process."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module", params=["global", "objects"])
def made(request: pytest.FixtureRequest, root: Path) -> tuple[str, Path]:
    """A recipe and the folder it made."""
    folder = root / f"made_{request.param}"
    main(arguments(root, request.param, folder))
    return request.param, folder


def test_folder_holds_masks_index_and_manifest(made: tuple[str, Path], root: Path) -> None:
    recipe, folder = made
    images = (folder / "images.txt").read_text().splitlines()
    regions = load_file(folder / "regions.safetensors")
    areas = []
    for row, image in enumerate(images):
        mask = read_label(folder / f"{Path(image).stem}.png")
        assert mask.shape == read_image(root / "shapes" / image).shape[:2]
        background = 0 if recipe == "objects" else None
        kept = kept_regions(mask, RegionFilter(min_area=300, rule="border", background=background))
        areas += [(row, region, int((mask == region).sum())) for region in kept]
    assert areas == list(zip(*(regions[column].tolist() for column in ("image", "region", "area")), strict=True))
    assert np.array_equal(regions["group"], regions["region"])
    embedding = np.load(folder / "embeddings.npy")
    assert embedding.shape == (len(areas), 48 if recipe == "objects" else 64)  # of the last stage but one
    np.testing.assert_allclose(np.linalg.norm(embedding.astype(np.float32), axis=1), 1, atol=1e-3)
    manifest = read_json(folder / "manifest.json")
    assert (manifest["images"], manifest["regions"], manifest["recipe"]) == (COUNT, len(areas), recipe)
    assert manifest["superpixel"] == {"scale": 100.0, "sigma": 0.8, "min_size": 200}
    assert not (folder / ".partial").exists()
    assert read_image(folder / "report.png").shape[1] == 3 * 320  # image, regions, kept regions; no labels


def test_twice_gives_the_same_bytes(made: tuple[str, Path], root: Path, tmp_path: Path) -> None:
    recipe, folder = made
    main(arguments(root, recipe, tmp_path / "again"))
    assert _content(tmp_path / "again") == _content(folder)


def test_a_complete_folder_is_left_alone(
    made: tuple[str, Path], root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, folder = made
    monkeypatch.setattr(masks.creation, "thread_pool", None)
    main(arguments(root, recipe, folder))
    assert f"is complete: {COUNT} masks" in capsys.readouterr().err


# The function in which the run is killed, and at which of its calls.
_STAGES = {
    "reading": ("masks.prepared_images", "prepare_image", 14),
    "extracting": ("masks.cluster", "write_tensors", 6),
    "clustering": ("masks.cluster", "_statistics", 2),
    "learning": ("masks.recipes.objects", "write_tensors", 6),
    "segmenting": ("masks.pseudo_folder", "write_label", 6),
    "finishing": ("episodes.pseudo_files", "write_text", 1),
}


def _stop_at(stage: str, number: signal.Signals, patch: pytest.MonkeyPatch) -> None:
    """Let this process send itself a signal in the middle of that stage."""
    name, function, call = _STAGES[stage]
    module, calls = importlib.import_module(name), itertools.count(1)
    work = getattr(module, function)

    def work_or_stop(*arguments: Any, **keywords: Any) -> Any:
        if next(calls) == call:
            os.kill(os.getpid(), number)
        return work(*arguments, **keywords)

    patch.setattr(module, function, work_or_stop)


def _run_and_stop(stage: str, number: signal.Signals, command_line: list[str], log: Path) -> None:
    """The command in a process that sends itself a signal in the middle of it; what it says goes to ``log``."""
    _stop_at(stage, number, pytest.MonkeyPatch())
    with log.open("w") as stream:
        sys.stderr = stream
        run_command(main, command_line)


def test_masks_of_images_with_hidden_names_stay(root: Path, tmp_path: Path) -> None:
    """The clean-up of temporary files once took them for such and deleted them."""
    folder = tmp_path / "images"
    names = [".x.jpg", ".x.7.jpg", "y.jpg"]
    for row, name in enumerate(names):
        write_image(folder / name, draw_image(row))
    write_list(tmp_path / "hidden.txt", [(name, None) for name in names])
    files = [f"list={tmp_path / 'hidden.txt'}", f"DATA.data_root={folder}"]
    command_line = arguments(root, "objects", tmp_path / "pseudo", *files)
    left_over = tmp_path / "pseudo" / ".partial" / "regions" / ".0000001.safetensors.4711"
    left_over.parent.mkdir(parents=True)
    left_over.touch()
    main(command_line)
    for name in names:
        assert read_label(tmp_path / "pseudo" / f"{Path(name).stem}.png").shape == (120, 160)
    # A folder of nothing but such masks is not empty.
    for path in (tmp_path / "pseudo").glob("[!.]*"):
        path.unlink()
    with pytest.raises(UserError, match="holds files but neither a manifest nor a run to continue"):
        main(command_line)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize(
    ("made", "stage", "cut"),
    [
        ("global", "segmenting", ["learnt.safetensors"]),
        ("global", "finishing", ["photo_03.png", ".partial/regions/0000005.safetensors"]),
        ("global", "clustering", [".partial/learning/0000003.safetensors"]),
        ("objects", "learning", [".partial/learning/0000003.safetensors"]),
        ("objects", "segmenting", ["learnt.safetensors"]),
    ],
    indirect=["made"],
)
def test_files_that_are_cut_short_are_made_again(
    root: Path, made: tuple[str, Path], tmp_path: Path, stage: str, cut: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command_line = arguments(root, made[0], tmp_path / "killed")
    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        _stop_at(stage, signal.SIGINT, patch)
        main([*command_line, "Cluster.threads=1"])
    for name in cut:
        _cut(tmp_path / "killed" / name)
    capsys.readouterr()
    main(command_line)
    lines = capsys.readouterr().err
    assert all(re.search(rf"{re.escape(name)}: not a [^\n]*; it is made again\n", lines) for name in cut)
    assert _content(tmp_path / "killed") == _content(made[1])


_CLUSTERING = ("reading", "extracting", "clustering", "segmenting", "finishing")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("made", "stage", "number"),
    [
        *(("global", stage, signal.SIGKILL) for stage in _CLUSTERING),
        *(("global", stage, signal.SIGINT) for stage in ("extracting", "segmenting")),
        *(("global", stage, signal.SIGTERM) for stage in ("reading", "clustering")),
        *(("objects", stage, signal.SIGTERM) for stage in ("learning", "segmenting")),
        *(("objects", stage, signal.SIGKILL) for stage in ("learning", "segmenting")),
    ],
    indirect=["made"],
)
def test_a_run_killed_at_any_stage_is_continued(
    root: Path, made: tuple[str, Path], tmp_path: Path, stage: str, number: signal.Signals
) -> None:
    command_line, log = arguments(root, made[0], tmp_path / "killed"), tmp_path / "log.txt"
    # Forked, which spares it the imports.
    process = multiprocessing.get_context("fork").Process(target=_run_and_stop, args=(stage, number, command_line, log))
    process.start()
    process.join(timeout=300)
    assert process.exitcode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number], log.read_text()
    if number != signal.SIGKILL:
        assert log.read_text().endswith("interrupted: the same command continues from what is on the disk\n")
        assert "Traceback" not in log.read_text()
    assert not (tmp_path / "killed" / "manifest.json").exists()
    main(command_line)
    assert _content(tmp_path / "killed") == _content(made[1])


def test_what_is_done_is_not_done_again(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command_line = arguments(root, "global", tmp_path / "stopped")
    added: list[int] = []
    add = PseudoFolder.add

    def add_five(folder: PseudoFolder, row: int, *rest: Any) -> None:
        if len(added) == 5:
            raise KeyboardInterrupt
        added.append(row)
        add(folder, row, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(PseudoFolder, "add", add_five)
        main([*command_line, "Cluster.threads=1"])
    again: list[int] = []

    def note_and_add(folder: PseudoFolder, row: int, *rest: Any) -> None:
        again.append(row)
        add(folder, row, *rest)

    monkeypatch.setattr(masks.recipes.clusters, "cluster_dataset", None)  # the centroids are there already
    monkeypatch.setattr(PseudoFolder, "add", note_and_add)
    main(command_line)
    assert sorted(added + again) == list(range(COUNT))


def _run_two_processes(command_line: list[str]) -> str:
    """Run the command under torchrun; returns what it says."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*torchrun, "-m", "masks.create", *command_line]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("made", ["global"], indirect=True)
@pytest.mark.parametrize("algorithm", ["minibatch", "spherical"])
def test_two_processes_give_the_masks_of_one(
    root: Path, made: tuple[str, Path], tmp_path: Path, algorithm: str
) -> None:
    settings = (f"Cluster.algorithm={algorithm}",)
    if algorithm == "spherical":
        main(arguments(root, "global", tmp_path / "one", *settings))
    log = _run_two_processes(arguments(root, "global", tmp_path / "two", *settings))
    assert log.count("pseudo masks for") == 1
    assert _content(tmp_path / "two") == _content(made[1] if algorithm == "minibatch" else tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("made", ["objects"], indirect=True)
def test_two_processes_learn_the_objects_of_one(root: Path, made: tuple[str, Path], tmp_path: Path) -> None:
    _run_two_processes(arguments(root, "objects", tmp_path / "two"))
    assert _content(tmp_path / "two") == _content(made[1])


def test_the_plan_comes_first(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(arguments(root, "global", tmp_path / "pseudo"))
    first, second, plan, *_ = capsys.readouterr().err.splitlines()
    assert first.endswith(f"pseudo masks for {COUNT} images of {root / 'train.txt'} into {tmp_path / 'pseudo'}")
    assert "recipe global, extractor timm:test_efficientnet; processes: 1 with 2 threads" in second
    steps = f"4 clusters of {COUNT} images in 1 groups, then {COUNT} masks"
    assert re.search(steps + r": about \d+\.\d\d GB of disk space$", plan)


def test_the_plan_of_objects(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(arguments(root, "objects", tmp_path / "pseudo", "Cluster.cluster_images=7"))
    plan = capsys.readouterr().err.splitlines()[2]
    assert f"objects of 7 images, then {COUNT} masks: about" in plan


@pytest.mark.parametrize("recipe", ["global", "objects"])
def test_a_transformer_over_several_views(root: Path, tmp_path: Path, recipe: str) -> None:
    weights = write_extractor(tmp_path / "vit.pth", "test_vit")
    settings = ["extractor=timm:test_vit", f"Cluster.extractor_weights={weights}", "Cluster.stride=8"]
    views = ["Cluster.flip=true", "Cluster.scales=[1,1.5]"]
    main(arguments(root, recipe, tmp_path / "pseudo", *settings, *views))
    manifest = read_json(tmp_path / "pseudo" / "manifest.json")
    assert (manifest["stride"], manifest["flip"], manifest["scales"]) == (8, True, [1.0, 1.5])
    with pytest.raises(UserError, match="flip is True there, False expected; scales is"):
        main(arguments(root, recipe, tmp_path / "pseudo", *settings))


@pytest.mark.parametrize(("dataset", "folder"), [("pascal", "pascal/JPEGImages"), ("coco", "COCO2014/train2014")])
def test_published_layouts(root: Path, tmp_path: Path, dataset: str, folder: str) -> None:
    images = write_images(tmp_path / "drawn", 3)
    shutil.copytree(images.root / "JPEGImages", tmp_path / folder)
    names = [f"{Path(folder).name}/{Path(image).name}" for image in images.images]
    write_list(tmp_path / "train.txt", [(name, None) for name in names])
    command_line = arguments(root, "objects", tmp_path / "pseudo", f"list={tmp_path / 'train.txt'}")
    main([str(tmp_path), dataset, *command_line[2:]])
    assert len(list((tmp_path / "pseudo").glob("photo_*.png"))) == 3


def test_a_dataset_of_ones_own(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "drawn", 3)
    for module in ("prepare.folder", "prepare.folder.dataset_config", "util.config"):
        monkeypatch.setattr(f"{module}.PROJECT", tmp_path)
    (tmp_path / "config").mkdir()
    for name in ("base.yaml", "ssl.yaml", "mobilenetv2.yaml", "resnet50.yaml", "resnet101.yaml"):
        shutil.copy(PROJECT / "config" / name, tmp_path / "config")
    prepare([str(word) for word in ("folder", tmp_path / "drawn", "--name", "mine")])
    assert choose_config(tmp_path / "data", "mine", []).experiment == "ssl_mobilenetv2"
    assert choose_config(tmp_path / "data", "mine", ["extractor=moco"]).experiment == "ssl_resnet50"
    assert choose_config(tmp_path / "data", "mine", ["extractor=timm:resnet18"]).experiment == "ssl_mobilenetv2"
    command_line = arguments(root, "objects", tmp_path / "pseudo", f"list={tmp_path / 'lists/mine/train.txt'}")
    main([str(tmp_path / "data"), "mine", *command_line[2:]])
    assert len(list((tmp_path / "pseudo").glob("*photo_*.png"))) == 3


@pytest.mark.parametrize("made", ["global"], indirect=True)
def test_published_masks_differ_and_say_so(root: Path, made: tuple[str, Path], tmp_path: Path) -> None:
    main(arguments(root, "global", tmp_path / "published", "TRAIN.compat=published"))
    manifest = read_json(tmp_path / "published" / "manifest.json")
    assert manifest["compat"] == "published"
    masks_differ = [path.read_bytes() != (made[1] / path.name).read_bytes() for path in tmp_path.rglob("photo_*.png")]
    assert len(masks_differ) == COUNT and any(masks_differ)


def test_choice_of_the_experiment(tmp_path: Path) -> None:
    for name in ("pascal", "COCO2014", "shapes"):
        (tmp_path / name).mkdir()
    assert choose_config(tmp_path, "shapes", []).experiment == "ssl_resnet50"
    assert choose_config(tmp_path, "shapes", ["extractor=timm:mobilenetv2_050"]).experiment == "ssl_demo"
    assert choose_config(tmp_path, "pascal", []).experiment == "ssl_resnet50"
    assert choose_config(tmp_path, "pascal", ["extractor=timm:mobilenetv2_100"]).experiment == "ssl_mobilenetv2"
    assert choose_config(tmp_path, "pascal", ["extractor=timm:resnet18"]).experiment == "ssl_resnet50"
    assert choose_config(tmp_path, "pascal", ["experiment=ssl_resnet101"]).experiment == "ssl_resnet101"
    assert choose_config(tmp_path, "coco", []).DATA.data_root == tmp_path / "COCO2014"


@pytest.mark.parametrize(
    ("settings", "stride"),
    [
        (["Cluster.recipe=global"], 32),
        (["extractor=timm:resnet50", "Cluster.recipe=global"], 32),
        (["extractor=timm:resnet50", "Cluster.recipe=global", "Cluster.cluster_size=257"], 16),
        (["extractor=timm:resnet50", "Cluster.recipe=global", "Cluster.cluster_size=129"], 8),
        (["extractor=timm:resnet50", "Cluster.recipe=objects"], 8),
    ],
)
def test_stride_of_the_features(tmp_path: Path, settings: list[str], stride: int) -> None:
    (tmp_path / "pascal").mkdir()
    cluster = choose_config(tmp_path, "pascal", ["experiment=ssl_resnet50", *settings]).Cluster
    assert find_recipe(cluster.recipe).stride(cluster) == stride


@pytest.mark.slow
def test_the_script_runs_from_its_own_folder_under_sh(root: Path, tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text("JPEGImages/photo_01.jpg\nJPEGImages/photo_02.jpg\n")
    command_line = arguments(root, "objects", tmp_path / "pseudo", f"list={tmp_path / 'two.txt'}")
    run = subprocess.run(["sh", "create.sh", *command_line], cwd=PROJECT / "masks", capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "pseudo masks for 2 images" in run.stderr
    assert (tmp_path / "pseudo" / "photo_02.png").is_file()


@pytest.mark.gpu
def test_on_the_gpu(root: Path, tmp_path: Path) -> None:
    assert torch.cuda.is_available()
    main(arguments(root, "global", tmp_path / "pseudo"))
    assert (tmp_path / "pseudo" / "manifest.json").is_file()
