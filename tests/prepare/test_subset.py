"""A share of a training list."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from episodes.lists import ImageList, read_list, write_list
from prepare.__main__ import main
from prepare.subset import draw_rows
from util.errors import UserError
from util.images import write_image, write_label


def image_list(count: int) -> ImageList:
    names = tuple(f"JPEGImages/{number:05d}.jpg" for number in range(count))
    return ImageList(Path("nowhere"), names, (None,) * count, "digest", Path("list.txt"))


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A list of ten images of class 1, one of which has class 2 as well."""
    pairs = []
    for number in range(10):
        image, label = f"JPEGImages/{number}.jpg", f"SegmentationClassAug/{number}.png"
        write_image(tmp_path / image, np.zeros((20, 20, 3), dtype=np.uint8))
        mask = np.ones((20, 20), dtype=np.uint8)
        mask[:10] = 2 if number == 0 else 1
        write_label(tmp_path / label, mask)
        pairs.append((image, label))
    write_list(tmp_path / "train.txt", pairs)
    return tmp_path / "train.txt"


@pytest.mark.parametrize(("count", "sizes"), [(5953, [297, 595, 1190]), (82081, [4104, 8208, 16416])])
def test_the_benchmarks_subsets_have_their_sizes_and_contain_each_other(count: int, sizes: list[int]) -> None:
    subsets = [draw_rows(image_list(count), percent, 123) for percent in (5, 10, 20)]
    assert [len(rows) for rows in subsets] == sizes
    assert set(subsets[0]) < set(subsets[1]) < set(subsets[2])
    assert all(rows == sorted(rows) for rows in subsets)


def test_names_and_seed_say_which_images() -> None:
    images = image_list(100)
    reversed_list = ImageList(images.root, images.images[::-1], images.labels, images.digest, images.list_file)
    drawn = {images.images[row] for row in draw_rows(images, 20, 123)}
    assert drawn == {reversed_list.images[row] for row in draw_rows(reversed_list, 20, 123)}
    assert drawn != {images.images[row] for row in draw_rows(images, 20, 124)}


def test_a_list_is_written_and_rare_classes_are_named(labelled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["subset", str(labelled), "--root", str(labelled.parent), "--percent", "60", "--min-area", "100"]
    main([*arguments, "--shots", "3"])
    subset = read_list(labelled.with_name("train_60.txt"), labelled.parent, need_labels=True)
    assert len(subset) == 6
    log = capsys.readouterr().err
    assert "train_60.txt: 6 of 10 images" in log
    assert "which need 4 images with 100 pixels (--min-area) of the class: class 2 (" in log
    assert "class 1" not in log


def test_nothing_left_and_no_share(labelled: Path) -> None:
    arguments = ["subset", str(labelled), "--root", str(labelled.parent), "--percent"]
    with pytest.raises(UserError, match="nothing is left of 10 images"):
        main([*arguments, "1"])
    with pytest.raises(UserError, match="'100' is not a number between 0 and 100"):
        main([*arguments, "100"])
