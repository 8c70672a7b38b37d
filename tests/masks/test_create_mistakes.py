"""What the command refuses, in one line that says what to do, and that nothing is lost by it."""

from __future__ import annotations

import multiprocessing
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from episodes.lists import write_list
from masks.create import main
from tests.masks.small_images import arguments, draw_image, write_images
from util.errors import UserError
from util.locks import only_process_in


@pytest.fixture(scope="module")
def made(root: Path) -> Path:
    """A complete pseudo folder of the recipe ``objects``."""
    main(arguments(root, "objects", root / "complete"))
    return root / "complete"


def test_other_settings_are_refused(made: Path, root: Path) -> None:
    command_line = arguments(root, "objects", made, "Cluster.superpixel_scale=50", "DATA.min_area=301")
    with pytest.raises(UserError) as refusal:
        main(command_line)
    message = str(refusal.value)
    assert "superpixel.scale is 100.0 there, 50.0 expected" in message
    assert "min_area is 300 there, 301 expected" in message
    assert "cluster_size" not in message
    assert "delete the folder" in message and "Cluster.pseudo_folder=" in message


def test_another_list_is_refused(made: Path, root: Path, tmp_path: Path) -> None:
    lines = (root / "train.txt").read_text().splitlines()
    (tmp_path / "fewer.txt").write_text("\n".join(lines[1:]))
    with pytest.raises(UserError, match="list_digest is"):
        main(arguments(root, "objects", made, f"list={tmp_path / 'fewer.txt'}"))


def test_masks_of_unknown_origin_are_not_overwritten(root: Path, tmp_path: Path) -> None:
    (tmp_path / "photo_00.png").write_bytes(b"somebody's work")
    with pytest.raises(UserError, match="neither a manifest nor a run to continue; delete the folder"):
        main(arguments(root, "objects", tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["photo_00.png"]


def test_an_unreadable_image_is_named_and_can_be_mended(root: Path, tmp_path: Path) -> None:
    images = write_images(tmp_path, 3)
    command_line = arguments(
        root, "objects", tmp_path / "pseudo", f"list={images.list_file}", f"DATA.data_root={images.root}"
    )
    whole = images.image_path(1).read_bytes()
    for content in (b"", b"not an image", whole[:-600]):
        images.image_path(1).write_bytes(content)
        with pytest.raises(UserError, match=r"^[^\n]*photo_01\.jpg[^\n]*$"):
            main(command_line)
    images.image_path(1).write_bytes(whole)
    main(command_line)
    assert (tmp_path / "pseudo" / "manifest.json").is_file()


def test_a_image_that_disappears_meanwhile_is_named_and_the_rest_is_kept(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = write_images(tmp_path, 3)
    command_line = arguments(
        root, "objects", tmp_path / "pseudo", f"list={images.list_file}", f"DATA.data_root={images.root}"
    )
    last = images.image_path(2)
    content = last.read_bytes()
    monkeypatch.setattr("masks.creation.PseudoFolder.save_learnt", lambda *_: last.unlink())
    monkeypatch.setattr("masks.prepared_images.CHUNK", 2)
    with pytest.raises(UserError, match=r"^[^\n]*photo_02\.jpg: image not found$"):
        main(command_line)
    assert (tmp_path / "pseudo" / "photo_01.png").is_file()
    last.write_bytes(content)
    monkeypatch.undo()
    main(command_line)
    assert (tmp_path / "pseudo" / "manifest.json").is_file()


def _work_in(folder: Path, begun: Event, finished: Event) -> None:
    with only_process_in(folder):
        begun.set()
        finished.wait(timeout=60)


def test_a_folder_in_which_another_process_works_is_refused(root: Path, tmp_path: Path) -> None:
    forked = multiprocessing.get_context("fork")
    begun, finished = forked.Event(), forked.Event()
    other = forked.Process(target=_work_in, args=(tmp_path / "pseudo", begun, finished))
    other.start()
    try:
        assert begun.wait(timeout=60)
        with pytest.raises(UserError, match=rf"^[^\n]*pseudo: process {other.pid} is working here; [^\n]*$"):
            main(arguments(root, "objects", tmp_path / "pseudo"))
    finally:
        finished.set()
        other.join()
    main(arguments(root, "objects", tmp_path / "pseudo"))


def test_a_complete_folder_needs_no_lock(made: Path, root: Path) -> None:
    """It may be on a disk that cannot be written to."""
    (made / ".lock").unlink()
    main(arguments(root, "objects", made))
    assert not (made / ".lock").exists()


def _write_kinds(folder: Path) -> list[str]:
    """Images of kinds that cameras and microscopes write, by their names."""
    colour = draw_image(0)
    kinds = {
        "grey.png": Image.fromarray(colour[..., 0]),
        "grey_16_bit.png": Image.fromarray(colour[..., 0].astype(np.uint16) * 257),
        "alpha.png": Image.fromarray(np.dstack([colour, colour[..., :1]])),
        "palette.png": Image.fromarray(colour).quantize(32),
        "cmyk.jpg": Image.fromarray(colour).convert("CMYK"),
        "5_by_5.png": Image.fromarray(colour[:5, :5]),
        "1_by_1.png": Image.fromarray(colour[:1, :1]),
        "1_by_900.png": Image.fromarray(np.tile(colour[:1], (1, 6, 1))[:, :900]),
        "4000_by_10.png": Image.fromarray(np.tile(colour[:, :10], (34, 1, 1))[:4000]),
        "24_megapixels.jpg": Image.fromarray(colour).resize((6000, 4000)),
    }
    folder.mkdir(parents=True)
    for name, image in kinds.items():
        image.save(folder / name)
    return list(kinds)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["global", "objects"])
def test_images_of_every_kind_get_masks_of_their_size(
    root: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, recipe: str
) -> None:
    folder = tmp_path / "images"
    names = _write_kinds(folder)
    write_list(tmp_path / "kinds.txt", [(name, None) for name in names])
    settings = [f"list={tmp_path / 'kinds.txt'}", f"DATA.data_root={folder}"]
    main(arguments(root, recipe, tmp_path / "pseudo", *settings))
    for name in names:
        with Image.open(folder / name) as image, Image.open(tmp_path / f"pseudo/{Path(name).stem}.png") as mask:
            assert mask.size == image.size and mask.mode == "P"


def test_no_region_survives(root: Path, tmp_path: Path) -> None:
    command_line = arguments(root, "objects", tmp_path / "pseudo", "DATA.min_area=50000")
    with pytest.raises(UserError, match=r"no pseudo region survives.*DATA\.min_area \(50000\).*region_rule \(border\)"):
        main(command_line)


def test_more_clusters_than_features(root: Path, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("JPEGImages/photo_01.jpg\n")
    further = [f"list={tmp_path / 'one.txt'}", "Cluster.cluster_num=200"]
    with pytest.raises(UserError, match=r"Cluster\.cluster_num=200 is more than the 48 features"):
        main(arguments(root, "global", tmp_path / "pseudo", *further))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["list=nowhere.txt"], r"nowhere\.txt: list not found"),
        (["weights=nowhere.pth"], r"nowhere\.pth: weights not found; see initmodel/README\.md"),
        (["extractor=timm:no_such_net"], "timm has no such model"),
        (["Cluster.recipe=fancy"], r"Cluster\.recipe"),
        (["Cluster.stage=5"], r"Cluster\.stage=5: extractor timm:test_efficientnet has stages 0 to 4, or -5 to -1"),
        (["Cluster.mid_stages=[1]"], r"unknown key 'Cluster\.mid_stages'"),
        (["experiment=ssl_nothing"], "no experiment 'ssl_nothing'"),
    ],
)
def test_mistakes_are_one_line(root: Path, tmp_path: Path, changes: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as mistake:
        main(arguments(root, "objects", tmp_path / "pseudo", *changes))
    assert "\n" not in str(mistake.value)
    assert not (tmp_path / "pseudo").exists()


@pytest.mark.parametrize(
    ("recipe", "settings", "message"),
    [
        ("objects", ["Cluster.object_share=1e-9"], r"Cluster\.object_share=1e-09: so small that no superpixel is obj"),
        ("objects", ["Cluster.object_share=0.999999999"], "no pseudo region survives"),
        ("objects", ["Cluster.scales=[0.001]"], r"Cluster\.scales\S*=0\.001: Input should be greater than or equal to"),
        ("objects", ["Cluster.superpixel_min_size=1000000000"], "nothing distinguishes the middle of the images"),
    ],
)
def test_limits_that_leave_nothing_are_one_line(
    root: Path, tmp_path: Path, recipe: str, settings: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=rf"^[^\n]*{message}[^\n]*$"):
        main(arguments(root, recipe, tmp_path / "pseudo", *settings))


@pytest.mark.parametrize("recipe", ["global", "objects"])
@pytest.mark.parametrize("count", [1, 2])
def test_a_list_of_one_or_two_images(root: Path, tmp_path: Path, recipe: str, count: int) -> None:
    lines = (root / "train.txt").read_text().splitlines()[1 : 1 + count]
    (tmp_path / "short.txt").write_text("\n".join(lines))
    main(arguments(root, recipe, tmp_path / "pseudo", f"list={tmp_path / 'short.txt'}"))
    assert len(list((tmp_path / "pseudo").glob("photo_*.png"))) == count


def test_unknown_dataset_and_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no dataset 'pascals'"):
        main([str(tmp_path), "pascals"])
    with pytest.raises(UserError, match=r"pascal: folder not found; ROOT is the folder that holds pascal/"):
        main([str(tmp_path), "pascal"])


def test_memory_that_runs_out_is_one_line(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("masks.creation.Creation._make_masks", refuse)
    with pytest.raises(UserError, match=r"^memory ran out; decrease Cluster\.threads, or Cluster\.cluster_size and "):
        main(arguments(root, "objects", tmp_path / "pseudo"))
