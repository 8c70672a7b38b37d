"""The report on pseudo masks: the command from folder to figures and sheets, and what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import masks.create
from episodes.lists import read_list, write_list
from masks.pseudo_masks import PseudoMasks
from masks.report.__main__ import existing_labels, main
from masks.report.measurement import TrueLabels, report
from masks.report.metric_groups import clustering_metrics, object_metrics
from masks.report.quality import Overlap, overlap
from masks.report.sheet import save_sheets
from tests.masks.small_images import COUNT, arguments, write_extractor, write_images
from util.errors import UserError, run_command
from util.files import read_json, write_json
from util.images import image_size, read_image, read_label, write_label

_OUTPUTS = ("report.json", "report.png", "report_masks.png")
_WITHOUT_LABEL = 2  # the last images of the list


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ROOT with images and drawn labels: a square of class 1 or 2, 255 around it. The last ones have none."""
    root = tmp_path_factory.mktemp("report")
    images = write_images(root, COUNT)
    write_extractor(root / "tiny.pth")
    names = [f"Labels/{Path(image).stem}.png" for image in images.images]
    for index, name in enumerate(names[:-_WITHOUT_LABEL]):
        label = np.zeros(read_image(images.image_path(index)).shape[:2], dtype=np.uint8)
        label[28:97, 28:97] = 255
        label[30:95, 30:95] = 1 + index % 2
        write_label(images.root / name, label)
    write_list(root / "train.txt", zip(images.images, [*names[:-1], None], strict=True))
    return root


@pytest.fixture(scope="module", params=["global", "objects"])
def made(request: pytest.FixtureRequest, labelled: Path) -> Path:
    """A complete pseudo folder, called as its recipe."""
    folder = labelled / request.param
    masks.create.main(arguments(labelled, request.param, folder))
    return folder


@pytest.fixture
def copied(labelled: Path, tmp_path: Path) -> Path:
    """A folder to damage."""
    folder = labelled / "global"
    masks.create.main(arguments(labelled, "global", folder))
    return Path(shutil.copytree(folder, tmp_path / "global"))


def _arguments(root: Path, folder: Path, *further: str) -> list[str]:
    return arguments(root, folder.name, folder, *further)


def _regions(folder: Path, root: Path) -> list[tuple[int, np.ndarray, np.ndarray | None]]:
    """Image, region (H, W) bool and true label of every kept region, read with nothing of the report."""
    images = (folder / "images.txt").read_text().splitlines()
    table = load_file(folder / "regions.safetensors")
    regions = []
    for row, region in zip(table["image"].tolist(), table["region"].tolist(), strict=True):
        stem = Path(images[row]).stem
        path = root / "shapes" / "Labels" / f"{stem}.png"
        regions.append(
            (row, read_label(folder / f"{stem}.png") == region, read_label(path) if path.is_file() else None)
        )
    return regions


def test_figures_are_those_of_a_loop_over_regions(made: Path, labelled: Path) -> None:
    main(_arguments(labelled, made))
    figures = read_json(made / "report.json")
    regions = _regions(made, labelled)
    counts = np.bincount([row for row, _, _ in regions], minlength=COUNT)
    assert figures["regions"]["images"] == COUNT
    assert figures["regions"]["regions_per_image"] == pytest.approx(counts.mean())
    assert figures["regions"]["images_without_region"] == pytest.approx(100 * (counts == 0).mean())
    assert sum(figures["regions"]["images_by_number_of_regions"].values()) == COUNT
    areas = [100 * region.mean() for _, region, _ in regions]
    assert figures["regions"]["area"]["median"] == pytest.approx(np.median(areas))
    ious, background = [], []
    for _, region, label in regions:
        if label is not None:
            true = (label == 1) | (label == 2)
            valid = label != 255
            ious.append((region & true).sum() / ((region | true) & valid).sum())
            background.append((label[region & valid] == 0).mean())
    kept = figures["kept_regions"]
    assert kept["regions"] == len(ious)
    assert kept["best_overlap"]["total"] == pytest.approx(100 * np.mean(ious))
    assert kept["overlap_above_half"]["total"] == pytest.approx(100 * np.mean(np.array(ious) > 0.5))
    assert kept["mostly_background"]["total"] == pytest.approx(100 * np.mean(np.array(background) > 0.5))
    assert figures["labels"]["labelled_images"] == figures["objects"]["objects"] == COUNT - _WITHOUT_LABEL


def test_clusters_are_counted_where_ids_mean_the_same_everywhere(made: Path, labelled: Path) -> None:
    main(_arguments(labelled, made))
    figures = read_json(made / "report.json")
    if made.name == "objects":
        assert list(figures["clusters"]) == list(figures["clustering"]) == ["left_out"]
        return
    pixels = np.zeros(256, dtype=int)
    for mask in made.glob("photo_*.png"):
        pixels += np.bincount(read_label(mask).ravel(), minlength=256)
    assert figures["clusters"]["clusters"] == 4
    assert figures["clusters"]["pixels"]["largest"] == pixels.max()
    assert figures["clusters"]["pixels"]["empty"] == (pixels[:4] == 0).sum()
    assert figures["clusters"]["regions"]["median"] == np.median(
        np.bincount(load_file(made / "regions.safetensors")["group"], minlength=4)
    )
    assert 0 < figures["clustering"]["miou"] < 100
    assert figures["clustering"]["classes_without_pixels"] == list(range(3, 21))


def test_twice_gives_the_same_bytes_and_the_table(
    made: Path, labelled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(_arguments(labelled, made, "--images", "3"))
    first = {name: (made / name).read_bytes() for name in _OUTPUTS}
    main(_arguments(labelled, made, "--images", "3"))
    assert {name: (made / name).read_bytes() for name in _OUTPUTS} == first
    table = capsys.readouterr().out
    assert "true labels were read, for measuring only" in table
    assert f"regions per image  {read_json(made / 'report.json')['regions']['regions_per_image']:.2f}" in table
    assert max(map(len, table.splitlines())) <= max(120, len(str(made)))


def test_sheets_have_a_row_for_each_image_drawn(made: Path, labelled: Path) -> None:
    images = read_list(labelled / "train.txt", labelled / "shapes", need_labels=False)
    sizes = [image_size(images.image_path(row)) for row in range(COUNT)]
    # A row is as high as its image, whose longer side has 316 pixels, and a margin.
    rows = [round(316 * height / max(height, width)) + 4 for height, width in sizes]
    main(_arguments(labelled, made, "--images", "3"))
    with_images, alone = (read_image(made / name) for name in _OUTPUTS[1:])
    assert (with_images.shape[1], alone.shape[1]) == (4 * 320, 3 * 320)
    assert 22 + 3 * min(rows) <= len(with_images) == len(alone) <= 22 + 3 * max(rows)
    main(_arguments(labelled, made, "--images", "100", "--without-labels"))
    assert read_image(made / "report.png").shape == (22 + sum(rows), 3 * 320, 3)


def test_the_sheet_paints_every_cluster_and_leaves_what_is_not_kept_black(copied: Path, labelled: Path) -> None:
    images = read_list(labelled / "train.txt", labelled / "shapes", need_labels=False)
    made = replace(PseudoMasks.load(copied), kept=[np.zeros(0, dtype=np.int32)] * COUNT)
    save_sheets(made, images, [None] * COUNT, count=COUNT, seed=0)
    sheet = read_image(copied / "report_masks.png")[22:]
    mask_column, kept_column = sheet[:, :320], sheet[:, 320:]
    assert not (mask_column == 0).all(axis=2).any() and (kept_column == 0).all(axis=2).any()
    assert set(np.unique(kept_column)) == {0, 255}  # white around the pictures


def test_without_labels_opens_none(made: Path, labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main(_arguments(labelled, made))
    with_labels = read_json(made / "report.json")
    for module in ("masks.report.measurement", "masks.report.sheet"):
        monkeypatch.setattr(f"{module}.read_label", lambda path: pytest.fail(f"{path} was opened"))
    main(_arguments(labelled, made, "--without-labels"))
    figures = read_json(made / "report.json")
    assert figures["labels"]["labels_used"] is False and with_labels["labels"]["labels_used"] is True
    assert not {"clustering", "objects", "kept_regions"} & set(figures)
    assert (figures["regions"], figures["clusters"]) == (with_labels["regions"], with_labels["clusters"])
    # What `masks.create` can do at its end.
    assert report(PseudoMasks.load(made)) == figures


def test_a_list_in_another_order_changes_nothing(made: Path, labelled: Path, tmp_path: Path) -> None:
    lines = (labelled / "train.txt").read_text().splitlines()
    (tmp_path / "turned.txt").write_text("\n".join(lines[::-1]))
    main(_arguments(labelled, made))
    first = {name: (made / name).read_bytes() for name in _OUTPUTS}
    main(_arguments(labelled, made, f"list={tmp_path / 'turned.txt'}"))
    assert {name: (made / name).read_bytes() for name in _OUTPUTS} == first


def test_true_labels_as_pseudo_masks_are_perfect(copied: Path, labelled: Path) -> None:
    images = read_list(labelled / "train.txt", labelled / "shapes", need_labels=False)
    made = PseudoMasks.load(copied)
    labels = TrueLabels(existing_labels(images), classes=2, min_area=300)
    table: dict[str, list[int]] = {"image": [], "region": [], "group": [], "area": []}
    for row in range(COUNT):
        path = labels.paths[row]
        mask = np.zeros_like(made.read(row)) if path is None else read_label(path) % 255
        write_label(made.mask_path(row), np.array([3, 0, 1], dtype=np.uint8)[mask])  # other names
        if path is not None:
            values = (row, [0, 1][row % 2], [0, 1][row % 2], 65 * 65)
            for column, value in zip(table.values(), values, strict=True):
                column.append(value)
    columns = {name: np.array(values, dtype=np.int32) for name, values in table.items()}
    save_file(columns, copied / "regions.safetensors")
    np.save(copied / "embeddings.npy", np.ones((8, 4), dtype=np.float16))
    np.save(copied / "neighbours.npy", np.empty((8, 0), dtype=np.int32))
    write_json(made.files.manifest, {**made.manifest, "digests": made.files.digests()})
    figures = report(PseudoMasks.load(copied), labels)
    assert figures["clustering"]["miou"] == figures["clustering"]["purity"] == 100
    assert figures["clustering"]["normalised_mutual_information"] == pytest.approx(1)
    assert figures["objects"]["best_overlap"] == figures["objects"]["recall_at_0.7"]
    assert figures["objects"]["best_overlap"] == {"total": 100, "per_image": 100}
    assert figures["kept_regions"]["mostly_background"] == {"total": 0, "per_image": 0}


def test_recall_counts_an_overlap_of_just_as_much_and_a_share_above_half_does_not() -> None:
    half = np.array([0.5])
    groups = object_metrics([Overlap(half, half, half, half, half)], 1)
    assert [groups["objects"][f"recall_at_{iou}"]["total"] for iou in (0.3, 0.5, 0.7)] == [100, 100, 0]
    assert groups["kept_regions"]["overlap_above_half"]["total"] == 0
    assert groups["kept_regions"]["mostly_background"]["total"] == 0


def test_nothing_to_measure_is_none_and_valid_json() -> None:
    empty = overlap(np.zeros((256, 3), dtype=np.int64), np.zeros(0, dtype=np.int32), 1)
    groups = object_metrics([empty], 1)
    assert groups["objects"]["best_overlap"] == {"total": None, "per_image": None}
    assert "NaN" not in json.dumps(groups)
    ignored = clustering_metrics(np.zeros((256, 3), dtype=np.int64), 4)
    assert ignored == {"left_out": "every pixel of the labels is ignored (255)"}


def test_a_label_that_does_not_fit_is_named(copied: Path, labelled: Path, tmp_path: Path) -> None:
    lines = (labelled / "train.txt").read_text().splitlines()
    for size, value, message in (((50, 60), 0, "60x50 pixels, but"), ((120, 160), 99, "the value 99; exp")):
        write_label(tmp_path / "odd.png", np.full(size, value, dtype=np.uint8))
        (tmp_path / "odd.txt").write_text(
            "\n".join([*lines[:1], f"{lines[1].split()[0]} {tmp_path / 'odd.png'}", *lines[2:]])
        )
        with pytest.raises(UserError, match=rf"^[^\n]*odd\.png: [^\n]*{message}[^\n]*$"):
            main(_arguments(labelled, copied, f"list={tmp_path / 'odd.txt'}"))


def test_a_sheet_never_takes_the_place_of_a_mask(copied: Path, labelled: Path) -> None:
    images = read_list(labelled / "train.txt", labelled / "shapes", need_labels=False)
    made = PseudoMasks.load(copied)
    (copied / "report.png").write_bytes(b"a mask")
    named_report = replace(made, images=("JPEGImages/report.jpg", *made.images[1:]))
    with pytest.raises(UserError, match=r"report\.png: the mask of an image; rename"):
        save_sheets(named_report, images, existing_labels(images), count=1, seed=0)
    assert (copied / "report.png").read_bytes() == b"a mask"


def test_a_weird_key_is_one_line_and_code_2(labelled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_command(main, [str(labelled), "shapes", "Cluster.recype=global"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: configuration shapes ssl_resnet50: unknown key")
